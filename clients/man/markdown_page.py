#!/usr/bin/env python3
"""A manual page of a Markdown file, in the little of Markdown that the project writes.

    markdown_page.py FILE NAME SECTION VERSION SUMMARY

Headings, paragraphs, lists, tables, indented text, `code`, **bold** and links. What else a file
may hold is refused rather than shown wrongly.
"""
import re
import sys


def escape(text):
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return text.replace("^", "\\(ha").replace("~", "\\(ti")


def inline(text):
    """Text of a paragraph with its markup."""
    if "![" in text or "<" in re.sub(r"`[^`]*`", "", text).replace(" < ", " "):
        sys.exit(f"markdown_page.py: can not show: {text}")
    text = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text)
    out = []
    for part in re.split(r"(`[^`]*`|\*\*[^*]+\*\*)", text):
        if part.startswith("`"):
            out.append("\\fB" + escape(part[1:-1]) + "\\fR")
        elif part.startswith("**"):
            out.append("\\fI" + escape(part[2:-2]) + "\\fR")
        else:
            out.append(escape(part))
    line = "".join(out)
    return "\\&" + line if line.startswith((".", "\\(aq")) else line


def table(lines):
    rows = [[c.strip() for c in line.strip().strip("|").split("|")] for line in lines]
    head, body = rows[0], rows[2:]
    yield ".TS"
    yield "allbox tab(|);"
    yield " ".join(["lb"] * len(head))
    yield " ".join(["l"] * (len(head) - 1) + ["lx"]) + "."
    yield "|".join(inline(c) for c in head)
    for row in body:
        cells = [inline(c) for c in row]
        yield "|".join(c if len(c) < 16 else "T{\n" + c + "\nT}" for c in cells)
    yield ".TE"


ITEM = re.compile(r"^(- |\d+\. )(.*)")


def page(lines):
    i = 0
    while i < len(lines):
        line = lines[i]
        item = ITEM.match(line)
        if not line:
            i += 1
        elif line.startswith("## "):
            yield ".SH " + inline(line[3:].upper())
            i += 1
        elif line.startswith("### "):
            yield ".SS " + inline(line[4:])
            i += 1
        elif line.startswith("|"):
            end = i
            while end < len(lines) and lines[end].startswith("|"):
                end += 1
            yield ".PP"
            yield from table(lines[i:end])
            i = end
        elif line.startswith("    "):
            yield ".PP"
            yield ".nf"
            while i < len(lines) and (lines[i].startswith("    ") or not lines[i]):
                yield ("    " + escape(lines[i][4:])) if lines[i] else ""
                i += 1
            yield ".fi"
        else:
            text = [item.group(2) if item else line]
            i += 1
            while i < len(lines) and lines[i] and not ITEM.match(lines[i]):
                if lines[i].startswith(("|", "#")):
                    break
                text.append(lines[i].strip())
                i += 1
            yield f".IP {item.group(1).strip() if item.group(1) != '- ' else chr(92) + '(bu'} 4" if item else ".PP"
            yield inline(" ".join(text))


def main():
    file, name, section, version, summary = sys.argv[1:]
    with open(file, encoding="utf-8") as f:
        lines = f.read().split("\n")
    print("'\\\" t")  # it has tables
    print(f'.TH "{escape(name.upper())}" {section} "" "mboold {version}"')
    print(f".SH NAME\n{escape(name)} \\- {escape(summary)}\n.SH DESCRIPTION")
    for line in page(lines[1:]):  # the first is the title
        print(line)


if __name__ == "__main__":
    main()
