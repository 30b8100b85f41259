"""The parts of the pages' HTML, with the places that :mod:`.render` fills."""

from typing import Final

HEAD: Final = """\
<!DOCTYPE html>
<html lang="$language" dir="$direction"$theme>
<head>
<meta charset="utf-8">
$first_script
<title>$page_title</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" nonce="$nonce" href="$stylesheet" integrity="$stylesheet_integrity">
<style nonce="$nonce">:root{$variables}$mask</style>
$scripts
$data
</head>
<body>
<main>
<p id="whose"$whose_hidden><strong dir="auto">$issuer_name</strong>
<span id="card" dir="ltr" role="img" hidden></span></p>
"""

#: In the page itself: without its stylesheet it must not show digits either. A browser that has no
#: mask draws none of them; the hint counts them.
MASK: Final = (
    ".field input{-webkit-text-security:disc}"
    "@supports not (-webkit-text-security:disc){"
    ".field input,.field input::selection{color:transparent;forced-color-adjust:none}}"
)
#: Of a field for a PIN: what browsers, and the password managers that people add, heed.
UNSAVED: Final = (
    'autocomplete="one-time-code" autocapitalize="off" data-1p-ignore data-bwignore'
    ' data-form-type="other" data-lpignore="true"'
)

#: One drawing; the stylesheet shows the part that belongs to the state. In the page itself, since
#: its policy loads no image.
ICON: Final = """\
<svg class="icon" viewBox="0 0 64 64" aria-hidden="true" focusable="false">
<circle cx="32" cy="32" r="29"/>
<path class="tick" d="M19 33l9 9 17-19"/>
<path class="cross" d="M22 22l20 20M42 22L22 42"/>
<path class="clock" d="M32 17v16l10 7"/>
<path class="mark" d="M32 17v19M32 45v1"/>
<path class="lock" d="M21 30h22v16H21zM25 30v-5a7 7 0 0 1 14 0v5"/>
<path class="swap" d="M19 27h25l-6-7M45 38H20l6 7"/>
<path class="eye" d="M15 32q17-21 34 0q-17 21-34 0M19 47L45 17"/>
<path class="dots" d="M20 32h.1M32 32h.1M44 32h.1"/>
</svg>"""

BEFORE: Final = f"""\
<section id="before">
<noscript><div class="notice" data-state="noscript">
{ICON}
<h1>$noscript_title</h1>
<p>$noscript_text</p>
</div></noscript>
<p id="stuck" data-text="stuck">$stuck</p>
</section>
"""

ENTRY: Final = """\
<section id="entry" hidden>
<form id="pin-form" novalidate autocomplete="off">
<div id="pin-group" role="group" aria-labelledby="entry-title" aria-describedby="rules">
<h1 id="entry-title" tabindex="-1" data-text="title">$title</h1>
<div class="field">
<label for="first-pin" data-text="first_label">$first_label</label>
<div class="pin" dir="ltr">
<input id="first-pin" type="text" inputmode="numeric" $unsaved spellcheck="false" \
enterkeyhint="next" dir="ltr" required aria-describedby="first-hint">
<div id="first-slots" class="slots" aria-hidden="true"></div>
</div>
<p id="first-hint" class="hint"></p>
</div>
<ul id="rules"></ul>
<div class="field" hidden>
<label for="second-pin" data-text="second_label">$second_label</label>
<div class="pin" dir="ltr">
<input id="second-pin" type="text" inputmode="numeric" $unsaved spellcheck="false" \
enterkeyhint="done" dir="ltr" required disabled aria-describedby="second-hint">
<div id="second-slots" class="slots" aria-hidden="true"></div>
</div>
<p id="second-hint" class="hint"></p>
</div>
</div>
<div id="warning" hidden>
<p><strong id="warning-text"></strong> <span id="seconds-left"></span></p>
<button id="extend" type="button" class="secondary" data-text="extend">$extend</button>
</div>
<div class="buttons"$buttons_hidden>
<button id="confirm" type="submit" data-text="confirm">$confirm</button>
$cancel_button
</div>
</form>
</section>
"""

CANCEL: Final = """\
<button id="cancel" type="button" class="secondary" data-text="cancel">$cancel</button>"""

VIEW: Final = """\
<section id="view" hidden>
<h1 id="view-title" tabindex="-1" data-text="view_title">$view_title</h1>
<p data-text="view_intro">$view_intro</p>
<div id="image-box"></div>
<div id="digits-box"></div>
<p id="view-hint" data-text="text_failed" hidden>$text_failed</p>
<p id="hides-in"></p>
<div class="buttons">
<button id="speak" type="button" class="secondary" data-text="speak" hidden>$speak</button>
<button id="reveal" type="button" class="secondary" data-text="reveal" hidden>$reveal</button>
<button id="hide" type="button" data-text="hide">$hide</button>
</div>
</section>
"""

NOTICE: Final = f"""\
<section id="notice" class="notice" hidden>
{ICON}
<h1 id="notice-title" tabindex="-1"></h1>
<p id="notice-text"></p>
<p id="notice-next" hidden></p>
<div class="buttons"><button id="notice-button" type="button" hidden></button></div>
</section>
<p id="status" role="status" class="unseen"></p>
</main>
<footer id="language-bar" hidden>
<label for="language" data-text="language" class="unseen">$label_language</label>
<select id="language" autocomplete="off">
$languages
</select>
</footer>
</body>
</html>
"""

WHOSE: Final = """\
<p id="whose"><strong dir="auto">$issuer_name</strong></p>"""

ENDED: Final = f"""\
<!DOCTYPE html>
<html lang="$language" dir="$direction"$theme>
<head>
<meta charset="utf-8">
$first_script
<title>$end_title</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="$stylesheet" integrity="$stylesheet_integrity">
$look
</head>
<body>
<main>
$whose
<section id="notice" class="notice" data-state="$state">
{ICON}
<h1>$end_title</h1>
<p>$end_text</p>
</section>
</main>
</body>
</html>
"""
