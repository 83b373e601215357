//! What is done to disks: probe, partition tables, image streaming. Knows nothing of agents or gRPC.

pub mod image;
