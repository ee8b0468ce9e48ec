"""What the end-to-end tests drive: the real binary and its real peers, each on free loopback ports, each ended by the test that started it."""
