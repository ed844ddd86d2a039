// Small files that are on disk whole or not at all: a header with a checksum, then a message.
#pragma once

#include <google/protobuf/message_lite.h>

#include <string>

#include "support/status.h"

namespace abq::tools {

// Bytes of a file: magic (8), size of the message (8, little endian), its checksum64 (8), the
// message.
//
// Writes `path`.new, flushes it to disk, renames it and flushes the folder: after a crash there is
// the old file or the new one. Io carries the operating system's reason.
Status write_message_file(const std::string& path, const google::protobuf::MessageLite& message);
// NotFound when there is no such file; Corrupt says what is wrong with its bytes.
Status read_message_file(const std::string& path, google::protobuf::MessageLite& message);
// Flushes the names in a folder to disk, where the file system can.
void sync_folder(const std::string& path);

}  // namespace abq::tools
