"""The second kind of AdaTape: a glance, a tape that grows in rounds, and an answer after each of them."""
