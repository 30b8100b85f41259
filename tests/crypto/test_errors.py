import pytest

from crypto import errors

EVERY = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.CryptoError)
]


def test_the_docstring_draws_the_whole_tree() -> None:
    drawn = (errors.__doc__ or "").replace("─", " ").replace("└", " ").replace("├", " ").split()

    assert {kind.__name__ for kind in EVERY} == {word for word in drawn if word.endswith("Error")}


@pytest.mark.parametrize("kind", EVERY)
def test_an_error_takes_no_data(kind: type[Exception]) -> None:
    with pytest.raises(TypeError):
        kind("1234")
    assert kind().args == ()
    assert str(kind()) == ""
