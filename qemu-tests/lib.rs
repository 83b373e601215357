//! The virtual lab, what is measured in it and without it, and the end-to-end tests, as three folders: `lab/`, `bench/` and
//! `tests/`.

pub mod bench;
pub mod lab;
