//! What is generated of `proto/`: the part of containerd's API that is called here.
#![allow(missing_docs, clippy::all, unreachable_pub, dead_code)]

/// The modules are nested as the packages are: generated code names its neighbours so.
pub(crate) mod containerd {
    pub(crate) mod types {
        tonic::include_proto!("containerd.types");
    }
    pub(crate) mod services {
        pub(crate) mod containers {
            pub(crate) mod v1 {
                tonic::include_proto!("containerd.services.containers.v1");
            }
        }
        pub(crate) mod content {
            pub(crate) mod v1 {
                tonic::include_proto!("containerd.services.content.v1");
            }
        }
        pub(crate) mod diff {
            pub(crate) mod v1 {
                tonic::include_proto!("containerd.services.diff.v1");
            }
        }
        pub(crate) mod images {
            pub(crate) mod v1 {
                tonic::include_proto!("containerd.services.images.v1");
            }
        }
        pub(crate) mod leases {
            pub(crate) mod v1 {
                tonic::include_proto!("containerd.services.leases.v1");
            }
        }
        pub(crate) mod namespaces {
            pub(crate) mod v1 {
                tonic::include_proto!("containerd.services.namespaces.v1");
            }
        }
        pub(crate) mod snapshots {
            pub(crate) mod v1 {
                tonic::include_proto!("containerd.services.snapshots.v1");
            }
        }
        pub(crate) mod tasks {
            pub(crate) mod v1 {
                tonic::include_proto!("containerd.services.tasks.v1");
            }
        }
        pub(crate) mod version {
            pub(crate) mod v1 {
                tonic::include_proto!("containerd.services.version.v1");
            }
        }
    }
}

pub(crate) use containerd::services::containers::v1 as containers;
pub(crate) use containerd::services::content::v1 as content;
pub(crate) use containerd::services::diff::v1 as diff;
pub(crate) use containerd::services::images::v1 as images;
pub(crate) use containerd::services::leases::v1 as leases;
pub(crate) use containerd::services::namespaces::v1 as namespaces;
pub(crate) use containerd::services::snapshots::v1 as snapshots;
pub(crate) use containerd::services::tasks::v1 as tasks;
pub(crate) use containerd::services::version::v1 as version;
pub(crate) use containerd::types;
