//! How people reach a server: tokens, the server's certificate authority, and connections that are pinned to it.
//!
//! A server has a certificate authority of its own ([`authority`]). What people are given is one text ([`Token`]): it names that
//! authority and holds the secret by which the server knows its owner. So whoever has a token needs nothing else: a client
//! connects to no other server with it ([`Pinned`]), whatever address leads there, and the secret goes to no other.

#![forbid(unsafe_code)]

pub mod authority;
mod pinned;
pub mod private_file;
mod token;

pub use authority::{Authority, AuthorityError};
pub use pinned::{Bearer, NotTheServer, Pinned, PinnedChannel, SERVER_NAME, channel};
pub use token::{BadToken, NoRandom, Pin, SECRET_BYTES, Secret, Token, random};
