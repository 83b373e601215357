//! `farrier template create`, of one file or of several.

use std::collections::BTreeMap;
use std::io::Write;

use proto::v1::{self, PutTemplateRequest};
use serde::Serialize;

use super::super::{Asking, difference, given, last_of, warn, warn_of_hidden};
use crate::client::Client;
use crate::failure::Failure;
use crate::output;
use crate::terminal::Out;
use crate::views;

#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// A file, or a folder: its *.yaml and *.yml, by name; more than once: all are checked first; - for standard input
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    files: Vec<String>,
    /// Its name [default: the one in the file]
    #[arg(long)]
    name: Option<String>,
    /// Check everything, store nothing, and say what would change
    #[arg(long)]
    dry_run: bool,
}

/// What a dry run says of one.
#[derive(Debug, Serialize)]
struct Tried {
    name: String,
    namespace: String,
    change: String,
    /// That it would have.
    version: u64,
    /// As diff(1) says it with -u; empty: none.
    diff: String,
}

pub(super) async fn create(args: CreateArgs, asking: Asking<'_>) -> Result<(), Failure> {
    let files = given::read(&args.files)?;
    let name = args.name.unwrap_or_default();
    if !name.is_empty() && files.len() > 1 {
        return Err(Failure::Usage(format!(
            "--name is for one template, and {} files are named: give it with one of them",
            files.len()
        )));
    }
    let requests: Vec<PutTemplateRequest> = files
        .into_iter()
        .map(|file| {
            warn_of_hidden(&file.text, &file.source);
            PutTemplateRequest {
                name: name.clone(),
                text: file.text,
                source: file.source,
                namespace: asking.namespace.clone(),
                ..PutTemplateRequest::default()
            }
        })
        .collect();
    let mut client = asking.connect().await?;
    if args.dry_run {
        let tried = tried(&mut client, &requests).await?;
        return would(tried, asking);
    }
    // All are checked before the first is stored.
    if requests.len() > 1 {
        tried(&mut client, &requests).await?;
    }
    let (mut stored, mut failed) = (Vec::new(), Vec::new());
    let is_one = requests.len() == 1;
    for request in requests {
        let source = request.source.clone();
        match put(&mut client, request).await {
            Ok(template) => {
                warn(&template.warnings);
                stored.push(views::Template::from(template));
            }
            Err(failure) if is_one => return Err(failure),
            Err(failure) => failed.push(failure.of(&source)),
        }
    }
    match (stored.as_slice(), asking.output.is_text()) {
        ([template], _) if is_one => {
            output::one(asking.out, asking.output, template, |out| said(template, out))?;
        }
        (stored, true) => stored
            .iter()
            .try_for_each(|template| said(template, asking.out))?,
        (stored, false) => output::values(asking.out, asking.output, stored)?,
    }
    last_of(failed)
}

fn said(template: &views::Template, out: &mut Out) -> Result<(), Failure> {
    let is = match template.change.as_deref() {
        Some("unchanged") => "unchanged",
        _ => "stored",
    };
    Ok(writeln!(
        out,
        "template {} is {is}, version {}",
        template.name, template.version
    )?)
}

async fn put(client: &mut Client, request: PutTemplateRequest) -> Result<v1::Template, Failure> {
    let answer = client.control.put_template(request).await;
    client.answer(answer)
}

/// What storing each would come to.
///
/// # Errors
/// What is wrong with any of them, all of it; two files with one template.
async fn tried(client: &mut Client, requests: &[PutTemplateRequest]) -> Result<Vec<v1::Template>, Failure> {
    let (mut tried, mut failed) = (Vec::new(), Vec::new());
    let mut first: BTreeMap<(String, String), &str> = BTreeMap::new();
    for request in requests {
        let source = request.source.as_str();
        let dry = PutTemplateRequest {
            dry_run: true,
            ..request.clone()
        };
        let template = match put(client, dry).await {
            Ok(template) => template,
            Err(failure) if requests.len() == 1 => return Err(failure),
            Err(failure) => {
                failed.push(failure.of(source));
                continue;
            }
        };
        let key = (template.namespace.clone(), template.name.clone());
        if let Some(other) = first.insert(key, source) {
            failed.push(Failure::Failed(format!(
                "{source}: template {:?} is in {other}, too: give one of them another name, or leave it out",
                template.name
            )));
        }
        tried.push(template);
    }
    last_of(failed)?;
    Ok(tried)
}

fn would(tried: Vec<v1::Template>, asking: Asking<'_>) -> Result<(), Failure> {
    let is_one = tried.len() == 1;
    let tried: Vec<Tried> = tried
        .into_iter()
        .map(|template| {
            warn(&template.warnings);
            let names = (
                format!("{} (stored)", template.name),
                format!("{} (given)", template.name),
            );
            Tried {
                diff: difference::unified(&template.previous_text, &template.text, (&names.0, &names.1)),
                name: template.name,
                namespace: template.namespace,
                change: template.change,
                version: template.version,
            }
        })
        .collect();
    match (tried.as_slice(), asking.output.is_text()) {
        (_, true) => {
            for one in &tried {
                writeln!(
                    asking.out,
                    "template {} {}, version {} (dry run)",
                    one.name, one.change, one.version
                )?;
                difference::print(asking.out, &one.diff)?;
            }
            Ok(())
        }
        ([one], false) if is_one => output::one(asking.out, asking.output, one, |_| Ok(())),
        (tried, false) => output::values(asking.out, asking.output, tried),
    }
}
