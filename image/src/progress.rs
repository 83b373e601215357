//! What a build tells its caller while it runs.

/// One thing that happened in a build.
///
/// Steps do not nest: [`Progress::Ended`] closes the step that began last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<'a> {
    /// A step began; `bytes` is how many it will handle, where that is known.
    Began { step: &'a str, bytes: Option<u64> },
    /// So many more bytes of the current step are done.
    Advanced { bytes: u64 },
    /// Something worth a line, such as what was taken from the cache.
    Noted { text: &'a str },
    /// The current step is done.
    Ended { step: &'a str },
}

/// Where progress goes. A caller that does not care passes `&mut |_| {}`.
pub type Report<'a> = dyn FnMut(Progress<'_>) + 'a;

/// Runs `work` as the step `step`; the step ends only if it succeeds.
pub(crate) fn step<T, E>(
    report: &mut Report<'_>,
    step: &str,
    bytes: Option<u64>,
    work: impl FnOnce(&mut Report<'_>) -> Result<T, E>,
) -> Result<T, E> {
    report(Progress::Began { step, bytes });
    let done = work(report)?;
    report(Progress::Ended { step });
    Ok(done)
}
