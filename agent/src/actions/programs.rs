//! Programs of the boot image, brought for an action: how far that is, its people are told.

use super::Feed;
use crate::tools::{Step, Tools, ToolsError};

/// Sees to it that `program` can be run by its name. Cancel safe.
///
/// # Errors
/// [`ToolsError`].
pub(crate) async fn bring(tools: &Tools, program: &str, feed: &Feed) -> Result<(), ToolsError> {
    let (mut lines, mut begun) = (Vec::new(), false);
    let mut report = |step: Step| match step {
        Step::Fetched { bytes, of_bytes, .. } => {
            if !std::mem::replace(&mut begun, true) {
                feed.line_if_room(step.to_string());
            }
            feed.progress(bytes, of_bytes, 0, "tools");
        }
        Step::Mounted { .. } => lines.push(step.to_string()),
    };
    tools.needed(program, &mut report).await?;
    for line in lines {
        feed.line(line).await;
    }
    Ok(())
}
