//! `farrier template`.

use std::io::Write;
use std::process::ExitCode;

use proto::v1::{
    DeleteTemplateRequest, GetTemplateRequest, ListTemplatesRequest, PutTemplateRequest,
    RenderTemplateRequest,
};

use serde::Serialize;

use coordinator::templates::Checked;

use super::{Asking, Listing, devices, read_file, warn, warn_of_hidden};
use crate::failure::Failure;
use crate::once::{Key, ask_once};
use crate::output;
use crate::views;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum TemplateCommand {
    /// Store a template; one of the same name gets a new version
    #[command(after_help = EXAMPLES)]
    Create {
        /// The file; - for standard input
        #[arg(short, long, value_name = "FILE")]
        file: String,
        /// Its name [default: the one in the file]
        #[arg(long)]
        name: Option<String>,
    },
    /// Print a template
    #[command(after_help = "Example:\n  farrier template get debian > debian.yaml")]
    Get {
        /// Its name or id
        template: String,
    },
    /// List templates
    #[command(after_help = "Example:\n  farrier template list")]
    List(Listing),
    /// Delete a template; workflows made from it stay
    #[command(after_help = "Example:\n  farrier template delete debian")]
    Delete {
        /// Its name or id
        template: String,
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
          timeout: 60";

pub(crate) async fn run(command: TemplateCommand, asking: Asking<'_>) -> Result<ExitCode, Failure> {
    match command {
        TemplateCommand::Create { file, name } => create(&file, name.unwrap_or_default(), asking).await?,
        TemplateCommand::Get { template } => get(template, asking).await?,
        TemplateCommand::List(listing) => list(listing, asking).await?,
        TemplateCommand::Delete { template, key } => delete(template, key, asking).await?,
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

async fn create(file: &str, name: String, asking: Asking<'_>) -> Result<(), Failure> {
    let (text, source) = read_file(file)?;
    warn_of_hidden(&text, &source);
    let mut client = asking.connect().await?;
    let answer = client
        .control
        .put_template(PutTemplateRequest {
            name,
            text,
            source,
            namespace: asking.namespace.clone(),
        })
        .await;
    let answer = client.answer(answer)?;
    warn(&answer.warnings);
    let template = views::Template::from(answer);
    output::one(asking.out, asking.output, &template, |out| {
        writeln!(
            out,
            "template {} is stored, version {}",
            template.name, template.version
        )?;
        Ok(())
    })
}

async fn get(name_or_id: String, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let answer = client
        .control
        .get_template(GetTemplateRequest {
            name_or_id,
            namespace: asking.namespace.clone(),
        })
        .await;
    let template = views::Template::from(client.answer(answer)?);
    // As it was stored, so that it can be changed and given back.
    output::stored(asking.out, asking.output, &template, &template.text)
}

async fn list(listing: Listing, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let request = ListTemplatesRequest {
        namespace: asking.namespace.clone(),
        all_namespaces: listing.all_namespaces,
    };
    let answer = client.control.list_templates(request).await;
    let templates: Vec<_> = client
        .answer(answer)?
        .templates
        .into_iter()
        .map(views::Template::from)
        .collect();
    match listing.all_namespaces {
        true => output::list_of_all(asking.out, asking.output, &templates),
        false => output::list(asking.out, asking.output, &templates),
    }
}

async fn delete(name_or_id: String, key: Key, asking: Asking<'_>) -> Result<(), Failure> {
    let client = asking.connect().await?;
    let request = DeleteTemplateRequest {
        name_or_id: name_or_id.clone(),
        namespace: asking.namespace.clone(),
        idempotency_key: key.text(),
    };
    ask_once!(client, delete_template(request))?;
    output::deleted(asking.out, asking.output, "template", &name_or_id)
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
