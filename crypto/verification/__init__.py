"""Values that let an authorisation host check a PIN; in other hands each is an oracle for it."""
