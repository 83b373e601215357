//! `farrier lab`: a call into the lab's own library.

use std::process::ExitCode;

use qemu_tests::lab::LabArgs;

use crate::ending;
use crate::failure::{Failure, chain};

pub(crate) fn bench(bench: qemu_tests::bench::Bench) -> Result<ExitCode, Failure> {
    qemu_tests::bench::run(bench).map_err(|error| Failure::Failed(chain(error.as_ref())))
}

pub(crate) fn run(args: LabArgs) -> Result<ExitCode, Failure> {
    ending::tidied_by(image::remove_scratch);
    qemu_tests::lab::run(args).map_err(|error| Failure::Failed(chain(error.as_ref())))
}
