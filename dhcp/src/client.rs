//! The agent's DHCP client, as a pure state machine (RFC 2131 section 4.4).
