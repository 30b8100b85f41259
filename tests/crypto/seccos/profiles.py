"""Every kind of SECCOS profile that the model accepts, for hypothesis; and one by hand."""

import json
from typing import Any

from hypothesis import strategies as st

from crypto.seccos.profile import CARD_PARTS, COUNTER_PARTS, MAC_BYTES, SeccosProfile

Body = dict[str, Any]
#: Keys used as they are, for all cards: block and MAC of a PIN are the same on every card.
KEYS_OF_ALL_CARDS: Body = {
    "pin_block": {"session_key": "none", "same_on_every_card": True},
    "mac": {"session_key": "none"},
}

HEX_PAIRS = st.binary(min_size=1, max_size=4).map(lambda raw: raw.hex().upper())
CARD_DATA = st.lists(st.sampled_from([*CARD_PARTS]) | HEX_PAIRS, min_size=2, max_size=5).map(
    "".join
)
LITERALS = HEX_PAIRS.map(lambda pairs: f"hex:{pairs}")


def profile(body: Body) -> SeccosProfile:
    """Read a profile as it is read in life: from JSON."""
    return SeccosProfile.model_validate_json(json.dumps(body))


@st.composite
def bodies(draw: st.DrawFn, *, looks_at_prw: bool = False) -> Body:
    """Draw a profile, sound by construction: the model must take every one.

    Args:
        draw: hypothesis.
        looks_at_prw: one with which D1 sends a PRW that is verified.
    """

    def pick(*values: str) -> str:
        return draw(st.sampled_from(values))

    block: Body = {
        "clear_format": pick("iso0", "iso1", "iso2", "iso3"),
        "selfenc": pick("none", "append", *(() if looks_at_prw else ("replace",))),
        "cipher": pick("tdes-ecb", "tdes-cbc"),
        "padding": pick("none", "iso9797-2"),
        "session_key": pick("none", "emv_csk"),
    }
    if block["session_key"] == "none" and block["clear_format"] == "iso2":
        block["same_on_every_card"] = True
    if block["cipher"] == "tdes-cbc":
        block["iv"] = draw(st.just("counter") | st.binary(min_size=8, max_size=8).map(bytes.hex))
    mac_only = block["selfenc"] == "replace"
    mac_only = mac_only or (not looks_at_prw and draw(st.integers(0, 3)) == 0)
    mac: Body = {"alg": pick("iso9797-alg3-pad2", "aes-cmac", "tdes-cmac")}
    mac["length"] = draw(st.integers(4, MAC_BYTES[mac["alg"]]))
    mac["session_key"] = "none" if mac["alg"] == "aes-cmac" else pick("none", "emv_csk")
    csk = "emv_csk" in (block["session_key"], mac["session_key"])
    width = draw(st.sampled_from([1, 2, 4]))
    counter_max = draw(st.integers(1, min(256**width - 1, 0xFFFF if csk else 2**32)))
    issuer = not mac_only and not looks_at_prw and draw(st.booleans())
    prw: Body = {
        "alg": pick("aes-cmac", "tdes-cmac", "iso9797-alg3"),
        "encoding": pick("lv", "ibm-literal", "template"),
        "pan": pick("full", "iso12"),
        "cdp": draw(CARD_DATA),
        "cdt": draw(CARD_DATA),
        "random": pick("payload", "none", *(("issuer",) if issuer else ())),
    }
    bindings = ["cdt_suffix", "none"] + ["replace_random"] * (prw["random"] != "issuer")
    prw["counter_binding"] = draw(st.sampled_from(bindings))
    counters = [name for name, size in COUNTER_PARTS.items() if counter_max < 256**size]
    extras = st.lists(st.sampled_from(["pan", "cdp", "cdt", *counters]) | LITERALS, max_size=4)
    if prw["encoding"] == "template":
        parts = [*draw(extras), pick("pin", "pinField")]
        if prw["random"] != "none" or prw["counter_binding"] == "replace_random":
            parts.append("random")
        if prw["counter_binding"] == "cdt_suffix":
            parts.append("cdt")
        prw["template"] = draw(st.permutations(parts))
    parts = [*draw(extras), "pinBlock"]
    if prw["random"] != "issuer" and draw(st.booleans()):
        parts.append("prw")
    if prw["random"] == "payload" and prw["counter_binding"] != "replace_random":
        parts += draw(st.sampled_from([[], ["random"]]))
    bound_by_prw = not mac_only and prw["random"] != "issuer" and prw["counter_binding"] != "none"
    if not bound_by_prw or draw(st.booleans()):
        parts.append(draw(st.sampled_from(counters)))
    mac["input"] = draw(st.permutations(parts))
    return {
        "pin_block": block,
        "prw": prw,
        "mac": mac,
        "counter": {"width": width, "max": counter_max, "rule": pick("current", "next")},
        "verify": "mac_only" if mac_only else "full",
        "prw_source": "issuer" if issuer else "d1",
    }


profiles = bodies().map(profile)
profiles_with_prw = bodies(looks_at_prw=True).map(profile)
