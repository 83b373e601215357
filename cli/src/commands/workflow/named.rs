//! Which workflow somebody means: by its id, the beginning of one, its name, or `@last`.
//!
//! See docs/decisions/039-short-ids-are-beginnings.md.

use proto::v1::ListWorkflowsRequest;
use uuid::Uuid;

use super::super::Asking;
use crate::failure::Failure;
use crate::last::{self, LAST};
use crate::views::Workflow;

/// Those that are told of where several are meant; one more tells that there are more.
const TOLD: u32 = 5;
/// Fewer letters are no beginning of an id, but a name.
const SHORTEST: usize = 4;
/// Workflows among whose names a misspelt one is looked for.
const NAMES: u32 = 200;

/// The id of the workflow that a word means. A complete id is asked of nobody.
pub(crate) async fn meant(word: &str, asking: &Asking<'_>) -> Result<String, Failure> {
    if word == LAST {
        let id = last::of(&asking.server)?;
        let request = ListWorkflowsRequest {
            id_prefix: id.clone(),
            all_namespaces: true,
            ..ListWorkflowsRequest::default()
        };
        return match found(request, asking).await?.is_empty() {
            false => Ok(id),
            true => Err(Failure::NotFound(format!(
                "{LAST} is workflow {id}, which the server at {} does not have (any more): see `farrier workflow list`",
                asking.server
            ))),
        };
    }
    if Uuid::try_parse(word).is_ok() {
        return Ok(word.to_owned());
    }
    let is_beginning =
        |letter: u8| letter.is_ascii_digit() || (b'a'..=b'f').contains(&letter) || letter == b'-';
    if word.len() >= SHORTEST && word.bytes().all(is_beginning) {
        let request = ListWorkflowsRequest {
            id_prefix: word.to_owned(),
            all_namespaces: true,
            ..ListWorkflowsRequest::default()
        };
        if let Some(id) = only(found(request, asking).await?, "ids that begin with", word)? {
            return Ok(id);
        }
    }
    // A name is for people: those that go on come first.
    for unfinished in [true, false] {
        let request = ListWorkflowsRequest {
            name: word.to_owned(),
            unfinished,
            namespace: asking.namespace.clone(),
            ..ListWorkflowsRequest::default()
        };
        if let Some(id) = only(found(request, asking).await?, "the name", word)? {
            return Ok(id);
        }
    }
    let names = ListWorkflowsRequest {
        namespace: asking.namespace.clone(),
        limit: NAMES,
        ..ListWorkflowsRequest::default()
    };
    let names = found(names, asking).await?;
    let names = names.iter().map(|workflow| workflow.name.as_str());
    let cure = yaml::meant(word, names, ": see `farrier workflow list`");
    Err(Failure::NotFound(format!(
        "no workflow has the id or the name {word:?}{cure}"
    )))
}

/// One page of the newest.
async fn found(request: ListWorkflowsRequest, asking: &Asking<'_>) -> Result<Vec<Workflow>, Failure> {
    let mut client = asking.connect().await?;
    let request = ListWorkflowsRequest {
        newest_first: true,
        limit: if request.limit == 0 {
            TOLD + 1
        } else {
            request.limit
        },
        ..request
    };
    let answer = client.control.list_workflows(request).await;
    let answer = client.answer(answer)?;
    Ok(answer.workflows.into_iter().map(Workflow::from).collect())
}

/// The only one; `None`: there is none.
fn only(found: Vec<Workflow>, what: &str, word: &str) -> Result<Option<String>, Failure> {
    let told = usize::try_from(TOLD).unwrap_or(usize::MAX);
    match found.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(only.id.clone())),
        several => {
            let mut lines = vec![format!("several workflows have {what} {word:?}: say which")];
            let each = several.iter().take(told);
            lines.extend(each.map(|one| format!("  {}  {}  {}", one.id, one.state, one.name)));
            if several.len() > told {
                lines.push("  … and more".to_owned());
            }
            Err(Failure::Failed(lines.join("\n")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workflow(id: &str) -> Workflow {
        Workflow::from(proto::v1::Workflow {
            id: id.into(),
            name: "debian".into(),
            state: "RUNNING".into(),
            ..proto::v1::Workflow::default()
        })
    }

    #[test]
    fn several_are_told_of_and_one_is_meant() {
        let all = |count: usize| (0..count).map(|n| workflow(&format!("w{n}"))).collect::<Vec<_>>();
        assert_eq!(only(all(0), "the name", "debian").unwrap(), None);
        assert_eq!(only(all(1), "the name", "debian").unwrap().as_deref(), Some("w0"));
        let said = |count| only(all(count), "the name", "debian").unwrap_err().to_string();
        assert_eq!(
            said(2),
            "several workflows have the name \"debian\": say which\n  w0  RUNNING  debian\n  w1  RUNNING  debian"
        );
        assert!(
            said(6).ends_with("  w4  RUNNING  debian\n  … and more"),
            "{}",
            said(6)
        );
    }
}
