"""The parts of the pages' HTML, with the places that :mod:`.render` fills."""

from typing import Final

HEAD: Final = """\
<!DOCTYPE html>
<html lang="$language" dir="$direction">
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
<header id="language-bar" hidden>
<label for="language" data-text="language" class="unseen">$label_language</label>
<select id="language" autocomplete="off">
$languages
</select>
</header>
<main>
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

BEFORE: Final = """\
<section id="before">
<noscript><h1>$noscript_title</h1><p>$noscript_text</p></noscript>
<p id="stuck" data-text="stuck">$stuck</p>
</section>
"""

ENTRY: Final = """\
<section id="entry" hidden>
<form id="pin-form" novalidate autocomplete="off">
<div id="pin-group" role="group" aria-labelledby="entry-title" aria-describedby="entry-intro">
<h1 id="entry-title" tabindex="-1" data-text="title">$title</h1>
<p id="entry-intro"></p>
<div class="field">
<label for="first-pin" data-text="first_label">$first_label</label>
<input id="first-pin" type="text" inputmode="numeric" $unsaved spellcheck="false" \
enterkeyhint="next" dir="ltr" required aria-describedby="first-hint">
<p id="first-hint" class="hint"></p>
</div>
<div class="field">
<label for="second-pin" data-text="second_label">$second_label</label>
<input id="second-pin" type="text" inputmode="numeric" $unsaved spellcheck="false" \
enterkeyhint="done" dir="ltr" required disabled aria-describedby="second-hint">
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

NOTICE: Final = """\
<section id="notice" hidden>
<h1 id="notice-title" tabindex="-1"></h1>
<p id="notice-text"></p>
<p id="notice-next" hidden></p>
<div class="buttons"><button id="notice-button" type="button" hidden></button></div>
</section>
<p id="status" role="status" class="unseen"></p>
</main>
</body>
</html>
"""

ENDED: Final = """\
<!DOCTYPE html>
<html lang="$language" dir="$direction">
<head>
<meta charset="utf-8">
$first_script
<title>$end_title</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="$stylesheet" integrity="$stylesheet_integrity">
</head>
<body>
<main>
<h1>$end_title</h1>
<p>$end_text</p>
</main>
</body>
</html>
"""
