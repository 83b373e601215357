//! `farrier template`.

use std::io::Write;
use std::process::ExitCode;

use proto::v1::{
    DeleteTemplateRequest, GetTemplateRequest, ListTemplatesRequest, PutTemplateRequest,
    RenderTemplateRequest,
};

use serde::Serialize;

use super::{Asking, devices, in_file, read_file, warn, warn_of_hidden};
use crate::failure::Failure;
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
        #[arg(short, long)]
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
    List,
    /// Delete a template; workflows made from it stay
    #[command(after_help = "Example:\n  farrier template delete debian")]
    Delete {
        /// Its name or id
        template: String,
    },
    /// Check a template's syntax; asks no server
    #[command(after_help = "Example:\n  farrier template validate -f debian.yaml")]
    Validate {
        /// The file; - for standard input
        #[arg(short, long, value_name = "FILE")]
        file: String,
    },
    /// Print what a template gives for some devices; makes no workflow
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
        TemplateCommand::List => list(asking).await?,
        TemplateCommand::Delete { template } => delete(template, asking).await?,
        TemplateCommand::Validate { file } => validate(&file, asking)?,
        TemplateCommand::Render {
            template,
            file,
            devices,
        } => {
            render(template, file, &devices, asking).await?;
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
        .put_template(PutTemplateRequest { name, text })
        .await;
    let mut answer = client
        .answer(answer)
        .map_err(|failure| failure.in_file(&source))?;
    for warning in &mut answer.warnings {
        *warning = in_file(&source, warning);
    }
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
        .get_template(GetTemplateRequest { name_or_id })
        .await;
    let template = views::Template::from(client.answer(answer)?);
    // As it was stored, so that it can be changed and given back.
    output::stored(asking.out, asking.output, &template, &template.text)
}

async fn list(asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let answer = client.control.list_templates(ListTemplatesRequest {}).await;
    let templates: Vec<_> = client
        .answer(answer)?
        .templates
        .into_iter()
        .map(views::Template::from)
        .collect();
    output::list(asking.out, asking.output, &templates)
}

async fn delete(name_or_id: String, asking: Asking<'_>) -> Result<(), Failure> {
    let mut client = asking.connect().await?;
    let answer = client
        .control
        .delete_template(DeleteTemplateRequest {
            name_or_id: name_or_id.clone(),
        })
        .await;
    client.answer(answer)?;
    output::deleted(asking.out, asking.output, "template", &name_or_id)
}

fn validate(file: &str, asking: Asking<'_>) -> Result<(), Failure> {
    let (text, source) = read_file(file)?;
    let warnings = coordinator::templates::check(&text)
        .map_err(|error| Failure::Failed(in_file(&source, &error.to_string())))?;
    let warnings: Vec<String> = warnings.iter().map(|warning| in_file(&source, warning)).collect();
    warn(&warnings);
    output::one(asking.out, asking.output, &Validated { warnings }, |out| {
        writeln!(
            out,
            "{source}: the syntax is right; `farrier template render` shows what it gives"
        )?;
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
}

async fn render(
    template: Option<String>,
    file: Option<String>,
    given: &[String],
    asking: Asking<'_>,
) -> Result<(), Failure> {
    let text = file
        .map(|file| read_file(&file))
        .transpose()?
        .map(|(text, _)| text)
        .unwrap_or_default();
    let request = RenderTemplateRequest {
        template: template.unwrap_or_default(),
        text,
        devices: devices(given)?.into_iter().collect(),
    };
    let mut client = asking.connect().await?;
    let answer = client.control.render_template(request).await;
    let answer = client.answer(answer)?;
    warn(&answer.warnings);
    let rendered = Rendered {
        yaml: answer.yaml,
        warnings: answer.warnings,
    };
    output::one(asking.out, asking.output, &rendered, |out| {
        Ok(writeln!(out, "{}", rendered.yaml.trim_end())?)
    })
}
