"""PANs of sample cards, from the test ranges of card schemes."""

PAN = "4111111111111111"
PANS = (PAN, "5555555555554444", "4012888888881881", "5105105105105100")
