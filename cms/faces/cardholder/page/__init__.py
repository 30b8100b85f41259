"""The pages that a cardholder sees: their look, their texts, their script, their headers."""
