//! `farrier template`.

mod create;

use std::io::Write;
use std::process::ExitCode;

use proto::v1::{
    DeleteTemplateRequest, GetTemplateRequest, ListTemplateVersionsRequest, ListTemplatesRequest,
    RenderTemplateRequest,
};

use serde::Serialize;

use coordinator::templates::Checked;

use super::{Asking, Cut, Listing, cut, devices, difference, given, last_of, read_file, warn};
use crate::failure::Failure;
use crate::once::{Key, ask_once};
use crate::output;
use crate::views;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum TemplateCommand {
    /// Store templates; one of the same name gets a new version, unless it is stored so already
    #[command(after_help = EXAMPLES, visible_alias = "apply")]
    Create(create::CreateArgs),
    /// Print templates
    #[command(after_help = "\
Examples:
  farrier template get debian > debian.yaml
  farrier template get debian@3                       an older version
  farrier template get ubuntu -o yaml > ubuntu.yaml   with its name and labels; `farrier template create -f` takes both")]
    Get {
        /// Its name or id, with @VERSION an older one; several are printed one by one, with --- between them
        #[arg(required = true, value_name = "TEMPLATE")]
        templates: Vec<String>,
    },
    /// List templates
    #[command(after_help = "\
Examples:
  farrier template list
  farrier template list --name deb --sort-by updated --limit 5")]
    List(ListArgs),
    /// List the versions of a template that are kept, the newest first
    #[command(after_help = "\
The newest version and the 20 before it are kept. NAME@VERSION is an older one wherever a template is read or used.

Examples:
  farrier template versions debian
  farrier workflow create -t debian@3 -r device_1=node1")]
    Versions {
        /// Its name or id
        template: String,
    },
    /// Show how two versions of a template differ
    #[command(after_help = "\
Exit codes: 0 they do not differ, 1 they do, 2 and greater: it failed.

Examples:
  farrier template diff debian 3     from version 3 to the newest
  farrier template diff debian 3 5")]
    Diff {
        /// Its name or id
        template: String,
        /// The older version
        from: u64,
        /// The other one [default: the newest]
        to: Option<u64>,
    },
    /// Delete templates; workflows made from them stay
    #[command(after_help = "\
Examples:
  farrier template delete debian ubuntu
  farrier template delete -f templates/   those that the folder's files have")]
    Delete {
        /// Its name or id; several are deleted one by one
        #[arg(
            required_unless_present = "files",
            conflicts_with = "files",
            value_name = "TEMPLATE"
        )]
        templates: Vec<String>,
        /// Those that a file has, or the *.yaml and *.yml of a folder; more than once; - for standard input
        #[arg(short, long = "file", value_name = "FILE")]
        files: Vec<String>,
        #[command(flatten)]
        key: Key,
    },
    /// Check a template's syntax; asks no server
    #[command(after_help = "Example:\n  farrier template validate -f debian.yaml")]
    Validate {
        /// The file; - for standard input
        #[arg(short, long, value_name = "FILE")]
        file: String,
    },
    /// Print what a template gives for some devices, whatever is wrong with it; makes no workflow
    #[command(after_help = "Example:\n  farrier template render debian -r device_1=52:54:00:77:00:0b")]
    Render {
        /// Its name or id
        #[arg(required_unless_present = "file", conflicts_with = "file")]
        template: Option<String>,
        /// A file instead; - for standard input
        #[arg(short, long, value_name = "FILE")]
        file: Option<String>,
        /// What a variable of the template stands for; more than once, or all of them as a JSON object
        #[arg(short = 'r', long = "devices", value_name = "NAME=VALUE")]
        devices: Vec<String>,
        /// The machine whose record .hardware is: name, MAC or address [default: the one that the devices tell]
        #[arg(long, value_name = "MACHINE")]
        machine: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    cut: Cut,
    /// Sort by this, instead of by name
    #[arg(long, value_name = "COLUMN")]
    sort_by: Option<SortBy>,
    #[command(flatten)]
    listing: Listing,
}

/// What templates are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum SortBy {
    Name,
    /// Those that were changed last come first
    Updated,
}

const EXAMPLES: &str = "\
Example:
  version: \"0.1\"
  name: debian
  global_timeout: 1800
  tasks:
    - name: install
      worker: \"{{.device_1}}\"
      actions:
        - name: write the image
          image: image2disk
          timeout: 900
          environment:
            IMG_URL: http://10.77.0.1:7080/images/debian-12.img.zst
            DEST_DISK: /dev/vda
            COMPRESSED: \"true\"
        - name: start it
          image: reboot
          timeout: 60

  farrier template create -f templates/             every *.yaml and *.yml of the folder
  farrier template create -f debian.yaml --dry-run  what would change, line by line";

pub(crate) async fn run(command: TemplateCommand, asking: Asking<'_>) -> Result<ExitCode, Failure> {
    match command {
        TemplateCommand::Create(args) => create::create(args, asking).await?,
        TemplateCommand::Get { templates } => get(templates, asking).await?,
        TemplateCommand::Versions { template } => versions(template, asking).await?,
        TemplateCommand::Diff { template, from, to } => return diff(&template, (from, to), asking).await,
        TemplateCommand::List(args) => list(args, asking).await?,
        TemplateCommand::Delete {
            templates,
            files,
            key,
        } => {
            let templates = match files.is_empty() {
                true => templates.into_iter().map(|name| (String::new(), name)).collect(),
                false => named_in(&files)?,
            };
            delete(&templates, key, asking).await?;
        }
        TemplateCommand::Validate { file } => validate(&file, asking)?,
        TemplateCommand::Render {
            template,
            file,
            devices: given,
            machine,
        } => {
            let (text, source) = file.as_deref().map(read_file).transpose()?.unwrap_or_default();
            let request = RenderTemplateRequest {
                template: template.unwrap_or_default(),
                text,
                source,
                devices: devices(&given)?.into_iter().collect(),
                machine: machine.unwrap_or_default(),
                namespace: asking.namespace.clone(),
            };
            render(request, asking).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The namespaces and names of the templates that files have; all files are checked first.
fn named_in(files: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let (mut names, mut wrong) = (Vec::new(), Vec::new());
    for file in given::read(files)? {
        match coordinator::templates::names(&file.text, &file.source) {
            Ok(found) => names.extend(found),
            Err(error) => wrong.push(Failure::Failed(error.to_string()).of(&file.source).to_string()),
        }
    }
    match wrong.is_empty() {
        true => Ok(names),
        false => Err(Failure::Failed(wrong.join("\n"))),
    }
}

/// One by one; one that there is not keeps none of the others from being shown.
async fn get(names: Vec<String>, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let (mut templates, mut failed) = (Vec::new(), Vec::new());
    let is_one = names.len() == 1;
    for name_or_id in names {
        let request = GetTemplateRequest {
            name_or_id,
            namespace: asking.namespace.clone(),
        };
        let answer = client.control.get_template(request).await;
        match client.answer(answer) {
            Ok(template) => templates.push(views::Template::from(template)),
            Err(failure) => failed.push(failure),
        }
    }
    // As they were stored, so that they can be changed and given back.
    match (templates.as_slice(), asking.output.is_text()) {
        ([template], _) if is_one => {
            output::stored(asking.out, asking.output, template, &template.text)?;
        }
        (templates, true) => {
            for (number, template) in templates.iter().enumerate() {
                if number > 0 {
                    writeln!(asking.out, "---")?;
                }
                output::stored(asking.out, asking.output, template, &template.text)?;
            }
        }
        (templates, false) => output::stored(asking.out, asking.output, &templates, "")?,
    }
    last_of(failed)
}

async fn list(args: ListArgs, asking: Asking<'_>) -> Result<(), Failure> {
    let all_namespaces = args.listing.all_namespaces;
    let mut client = asking.connect().await?;
    let request = ListTemplatesRequest {
        namespace: asking.namespace.clone(),
        all_namespaces,
    };
    let answer = client.control.list_templates(request).await;
    let mut templates: Vec<_> = client
        .answer(answer)?
        .templates
        .into_iter()
        .map(views::Template::from)
        .filter(|template| args.cut.is_named(&template.name))
        .collect();
    match args.sort_by {
        None => {}
        Some(SortBy::Name) => templates.sort_by_key(|template| template.name.clone()),
        Some(SortBy::Updated) => {
            templates.sort_by_key(|template| std::cmp::Reverse(template.updated_at.clone()))
        }
    }
    let (templates, more) = cut(templates, &args.cut);
    match all_namespaces {
        true => output::list_of_all(asking.out, asking.output, &templates)?,
        false => output::list(asking.out, asking.output, &templates)?,
    }
    more.say();
    Ok(())
}

async fn versions(name_or_id: String, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let request = ListTemplateVersionsRequest {
        name_or_id,
        namespace: asking.namespace.clone(),
    };
    let answer = client.control.list_template_versions(request).await;
    let versions = client.answer(answer)?.versions.into_iter();
    let versions: Vec<_> = versions.map(views::TemplateVersion::from).collect();
    output::list(asking.out, asking.output, &versions)
}

/// What a difference is between two versions, in JSON.
#[derive(Serialize)]
struct Difference {
    name: String,
    from: u64,
    to: u64,
    /// As diff(1) says it with -u; empty: none.
    diff: String,
}

/// Exit codes as those of diff(1).
async fn diff(
    name_or_id: &str,
    (from, to): (u64, Option<u64>),
    asking: Asking<'_>,
) -> Result<ExitCode, Failure> {
    let mut client = asking.connect().await?;
    let mut texts = Vec::new();
    let to_word = to.map_or_else(|| name_or_id.to_owned(), |to| format!("{name_or_id}@{to}"));
    for word in [format!("{name_or_id}@{from}"), to_word] {
        let request = GetTemplateRequest {
            name_or_id: word,
            namespace: asking.namespace.clone(),
        };
        let answer = client.control.get_template(request).await;
        texts.push(client.answer(answer).map_err(Failure::of_comparison)?);
    }
    let [old, new] = texts.as_slice() else {
        return Ok(ExitCode::FAILURE);
    };
    let names = (
        format!("{}@{}", old.name, old.version),
        format!("{}@{}", new.name, new.version),
    );
    let difference = Difference {
        name: new.name.clone(),
        from: old.version,
        to: new.version,
        diff: difference::unified(&old.text, &new.text, (&names.0, &names.1)),
    };
    output::one(asking.out, asking.output, &difference, |out| {
        difference::print(out, &difference.diff)
    })?;
    Ok(match difference.diff.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Of a namespace, or that of the command where it is empty; one by one, and one that cannot be deleted keeps none of the
/// others from it.
async fn delete(templates: &[(String, String)], key: Key, asking: Asking<'_>) -> Result<(), Failure> {
    key.check_for(templates.len())?;
    let client = asking.connect().await?;
    let mut failed = Vec::new();
    for (namespace, name) in templates {
        let namespace = match namespace.as_str() {
            "" => &asking.namespace,
            own => own,
        };
        let request = DeleteTemplateRequest {
            name_or_id: name.clone(),
            namespace: namespace.to_owned(),
            idempotency_key: key.clone().text(),
        };
        match ask_once!(client, delete_template(request)) {
            Ok(_) => output::deleted(asking.out, asking.output, "template", name)?,
            Err(failure) => failed.push(failure),
        }
    }
    last_of(failed)
}

fn validate(file: &str, asking: Asking<'_>) -> Result<(), Failure> {
    let (text, source) = read_file(file)?;
    let Checked { warnings, is_whole } =
        coordinator::templates::check(&text, &source).map_err(|error| Failure::Failed(error.to_string()))?;
    warn(&warnings);
    output::one(asking.out, asking.output, &Validated { warnings }, |out| {
        // Nothing is said of what was not looked at.
        let said = match is_whole {
            true => "the syntax is right; `farrier template render` shows what it gives",
            false => {
                "the syntax of its {{ }} is right; what it gives can be checked for a machine only: `farrier template render` does"
            }
        };
        writeln!(out, "{source}: {said}")?;
        Ok(())
    })
}

#[derive(Serialize)]
struct Validated {
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Rendered {
    yaml: String,
    warnings: Vec<String>,
    problems: Vec<String>,
}

async fn render(request: RenderTemplateRequest, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let answer = client.control.render_template(request).await;
    let answer = client.answer(answer)?;
    warn(&answer.warnings);
    let rendered = Rendered {
        yaml: answer.yaml,
        warnings: answer.warnings,
        problems: answer.problems,
    };
    output::one(asking.out, asking.output, &rendered, |out| {
        if rendered.problems.is_empty() {
            return Ok(writeln!(out, "{}", rendered.yaml.trim_end())?);
        }
        // With the numbers that the problems speak of.
        for (index, line) in rendered.yaml.lines().enumerate() {
            writeln!(out, "{:>4} | {line}", index + 1)?;
        }
        Ok(())
    })?;
    let problems = rendered.problems.join("\n");
    match (rendered.problems.is_empty(), answer.unknown_machine) {
        (true, _) => Ok(()),
        (false, true) => Err(Failure::NotFound(problems)),
        (false, false) => Err(Failure::Failed(problems)),
    }
}
