#!/usr/bin/env python3
"""Makes or checks the tokenizer fixtures in tests/data/tokenizers.

    scripts/check_tokenizer.py                      compares golden.json with what the packages give
    scripts/check_tokenizer.py --write              writes golden.json and the derived tokenizer.json
    scripts/check_tokenizer.py --train TEXT --write trains llama2-style.model on TEXT first

Needs `pip install tokenizers sentencepiece`. The fixtures:

    llama2-style.model    sentencepiece BPE, 512 pieces, byte fallback, as Llama-2 has it
    llama2-style.json     the same vocabulary as a tokenizer.json (Prepend, Replace, ByteFallback)
    metaspace-first.json  the same with a Metaspace pre-tokenizer, prepend_scheme "first"
    gpt2-style.json       the vocabulary of tiny-llama behind ByteLevel with its own regex
    added-tokens.json     tiny-llama with added tokens of every kind (lstrip, single_word, ...)
    golden.json           for each tokenizer and each text: ids without special tokens, the decoded
                          text where it is not the text, and the ids with special tokens of the
                          first text
"""
import argparse
import copy
import json
import pathlib
import sys

import sentencepiece
import tokenizers

DATA = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data"
FOLDER = DATA / "tokenizers"
BASE = DATA / "tiny-llama" / "tokenizer.json"

TEXTS = [
    "Hello world",
    "",
    " ",
    "  ",
    "   three spaces before",
    "two spaces after  ",
    "in  the   middle    of     text",
    "\n",
    "\n\n\n",
    "line one\nline two\r\nline three\n",
    "\ttab\tand\t\ttabs ",
    " \n \n\t ",
    "I'm sure they've said it's what we'd like; YOU'LL SEE, DON'T",
    "12345678901234567890 3.14159 1,000,000 ٣٤٥ ½ Ⅷ",
    "naïve café, Zürich, Ångström, Łódź",
    "e\u0301 combining, Z\u0335a\u0321l\u0321g\u0334o\u0334",
    "日本語のテキスト、中文文本。",
    "한국어 텍스트 और हिन्दी עברית العربية",
    "emoji 😀👩‍👩‍👧‍👦🏳️‍🌈 done",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 𒀀",
    "zero\u200bwidth\u200d and\u2060 joiners\ufeff",
    "\u00a0no-break\u00a0space\u3000ideographic\u2009thin\u1680ogham",
    "next\u0085line\u2028separator\u2029paragraph\u000bvt\u000cff",
    "mongolian\u180evowel separator",
    "control \x00\x01\x1f\x7f characters",
    "<|begin_of_text|>special<|end_of_text|> inside <|begin_of_text|> text",
    "<s>special</s> and <unk> in <s> text",
    "<0x0A> spelled out <0xE2>",
    "▁mark itself ▁▁ and _ underscore",
    "[MASK] [MASK][MASK]  x[WORD] [WORD] [WORD]y  [LEFT]  [RIGHT]  z New York  newyork <tool> <tool_call>",
    "  [RIGHT]  [LEFT]  ",
    "for (int i = 0; i < n; ++i) { a[i] += b[i] * 2.0f; }  // comment",
    "https://example.org/path?query=1&other=%20#part",
    "!!!???...---***===",
    "ALLCAPS CamelCase snake_case kebab-case",
    "a",
    "é",
    "\U0010ffff\ue000",
    "A very long word: " + "Donaudampfschifffahrtsgesellschaft" * 12,
    "x" * 500,
    "ab " * 100,
    " " * 300 + "end",
    "The tower is 324 metres (1,063 ft) tall , about the same height as an 81 @-@ storey building .",
    " = Robert Boulter = \n \n Robert Boulter is an English film , television and theatre actor . ",
]


def train(text):
    # From an iterator into a writer: a model trained from named files carries their paths.
    with open(text, encoding="utf-8") as lines, open(FOLDER / "llama2-style.model", "wb") as model:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(line.rstrip("\n") for line in lines), model_writer=model,
            vocab_size=512, model_type="bpe", byte_fallback=True, character_coverage=0.99,
            normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
            allow_whitespace_only_pieces=True, input_sentence_size=2000,
            shuffle_input_sentence=False, num_threads=1, minloglevel=2)


def llama2_json():
    """The sentencepiece model as a tokenizer.json: a merge for every split of a piece into two
    pieces, in the order of the scores of the result."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(FOLDER / "llama2-style.model"))
    vocab = {processor.id_to_piece(i): i for i in range(processor.get_piece_size())}
    merges = []
    for piece, index in vocab.items():
        if index < 3 or processor.is_byte(index):
            continue
        local = [(piece[:i], piece[i:]) for i in range(1, len(piece))
                 if piece[:i] in vocab and piece[i:] in vocab]
        local.sort(key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))
        merges += [(processor.get_score(index), pair) for pair in local]
    merges.sort(key=lambda merge: -merge[0])
    token = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
             "special": True}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": c, **token}
                         for i, c in enumerate(("<unk>", "<s>", "</s>"))],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                     {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>",
                  "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": True,
                  "byte_fallback": True, "ignore_merges": False, "vocab": vocab,
                  "merges": [f"{a} {b}" for _, (a, b) in merges]},
    }


def metaspace_json(llama2):
    result = copy.deepcopy(llama2)
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}
    result["normalizer"] = None
    result["pre_tokenizer"] = metaspace
    result["decoder"] = metaspace
    # No byte tokens: unknown characters become <unk>.
    result["model"]["byte_fallback"] = False
    return result


def gpt2_json(base):
    result = copy.deepcopy(base)
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                  "use_regex": True}
    result["pre_tokenizer"] = byte_level
    result["decoder"] = byte_level
    result["post_processor"] = {"type": "Sequence",
                                "processors": [byte_level, result["post_processor"]]}
    result["model"]["ignore_merges"] = True
    return result


def added_tokens_json(base):
    result = copy.deepcopy(base)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
             "special": False}
    for content, change in [
        ("[MASK]", {"lstrip": True, "special": True}),
        ("[WORD]", {"single_word": True}),
        ("[LEFT]", {"lstrip": True}),
        ("[RIGHT]", {"rstrip": True}),
        ("New York", {"normalized": True}),
        ("<tool>", {}),
        ("<tool_call>", {"special": True}),
        ("<tool", {}),
    ]:
        result["added_tokens"].append(
            {"id": 1024 + len(result["added_tokens"]) - 2, "content": content, **flags, **change})
    digits = {"type": "Digits", "individual_digits": True}
    split = {"type": "Split", "pattern": {"Regex": r"\p{L}+"}, "behavior": "MergedWithPrevious",
             "invert": False}
    result["pre_tokenizer"]["pretokenizers"][0] = digits
    result["pre_tokenizer"]["pretokenizers"].insert(1, split)
    result["normalizer"] = {"type": "Replace", "pattern": {"Regex": "o+"}, "content": "o"}
    return result


def golden_of(encode, decode, encode_special):
    cases = []
    for text in TEXTS:
        ids = encode(text)
        case = {"text": text, "ids": ids}
        if decode(ids) != text:
            case["decoded"] = decode(ids)
        cases.append(case)
    return {"with_special": encode_special(TEXTS[0]), "cases": cases}


def package_golden(content):
    tokenizer = tokenizers.Tokenizer.from_str(content)
    return golden_of(lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
                     lambda ids: tokenizer.decode(ids, skip_special_tokens=True),
                     lambda text: tokenizer.encode(text, add_special_tokens=True).ids)


def library_golden():
    processor = sentencepiece.SentencePieceProcessor(model_file=str(FOLDER / "llama2-style.model"))
    return golden_of(processor.encode, processor.decode,
                     lambda text: processor.encode(text, add_bos=True))


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", metavar="TEXT", help="train llama2-style.model on this text")
    parser.add_argument("--write", action="store_true", help="write the fixtures")
    options = parser.parse_args()
    if options.train:
        train(options.train)

    base = json.loads(BASE.read_text(encoding="utf-8"))
    llama2 = llama2_json()
    files = {"llama2-style.json": llama2, "metaspace-first.json": metaspace_json(llama2),
             "gpt2-style.json": gpt2_json(base), "added-tokens.json": added_tokens_json(base)}
    contents = {name: compact(value) + "\n" for name, value in files.items()}
    golden = {"tokenizers/" + name: package_golden(text) for name, text in contents.items()}
    golden["tiny-llama/tokenizer.json"] = package_golden(BASE.read_text(encoding="utf-8"))
    golden["tokenizers/llama2-style.model"] = library_golden()
    # One line for each case keeps differences readable.
    lines = ",\n".join(
        f'{json.dumps(name)}:{{"with_special":{compact(entry["with_special"])},"cases":[\n'
        + ",\n".join(compact(case) for case in entry["cases"]) + "]}"
        for name, entry in golden.items())
    contents["golden.json"] = "{\n" + lines + "\n}\n"

    stale = [name for name, text in contents.items()
             if not (FOLDER / name).exists() or (FOLDER / name).read_text(encoding="utf-8") != text]
    if options.write:
        for name in stale:
            (FOLDER / name).write_text(contents[name], encoding="utf-8")
        print(f"tests/data/tokenizers: {len(stale)} of {len(contents)} files written")
        return 0
    for name in stale:
        print(f"tests/data/tokenizers/{name}: differs from what the packages give; "
              "use --write to replace it")
    if not stale:
        print(f"tests/data/tokenizers: {len(contents)} files agree with the packages")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
