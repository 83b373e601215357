//! Workflows: made from a template and devices, stepped by the coordinator, read and followed.

pub(crate) mod answers;
pub(crate) mod blocked;
pub(crate) mod carrier;
pub(crate) mod list;
pub(crate) mod logs;
mod preview;
pub(crate) mod read;
pub(crate) mod silence;
mod start;
pub(crate) mod step;
pub(crate) mod timers;

mod deletion;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;
use workflow::engine::{self, Command, UnixMillis, Workflow};
use workflow::labels::{self, LabelError, Labels};

use crate::clock;
use crate::control::ControlPlane;
use crate::tasks::broken_off;
use crate::within::Within;
use coordinator::Error;
use coordinator::database::{Batch, View};
use coordinator::making::{self, Identity, Rendering, Source};
use coordinator::namespaces::{Reach, Scope};
use coordinator::once::{self, Once};
use coordinator::steps::load;
use coordinator::templates;
use coordinator::{Answer, Input, NewWorkflow, Next};
use workflow::language::{Definition, ImagePolicy, PolicyRule, Runtime};

/// What a client asks to be made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Creation {
    /// Name or id of a stored template; empty: `text`.
    pub(crate) template: String,
    pub(crate) text: String,
    /// The name of the file that `text` is from, for messages.
    pub(crate) file: String,
    pub(crate) devices: BTreeMap<String, String>,
    /// Name or MAC; empty: the one that the devices tell.
    pub(crate) machine: String,
    pub(crate) inputs: Map<String, Value>,
    /// As somebody typed them.
    pub(crate) typed_inputs: BTreeMap<String, String>,
    /// Empty: none.
    pub(crate) idempotency_key: String,
    /// Empty: the template's.
    pub(crate) name: String,
    /// It begins then; `None`: at once.
    pub(crate) start_at: Option<UnixMillis>,
    /// Beside those of the template, and before them.
    pub(crate) labels: Labels,
    /// Rules that come before the template's.
    pub(crate) policy: Vec<PolicyRule>,
    pub(crate) by: String,
    pub(crate) within: Within,
}

/// A client's key, and what was asked with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Asked {
    id: String,
    template: String,
    devices: BTreeMap<String, String>,
    name: String,
    #[serde(default)]
    inputs: Map<String, Value>,
    #[serde(default)]
    typed_inputs: BTreeMap<String, String>,
    #[serde(default)]
    text: String,
    #[serde(default)]
    machine: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start_at: Option<UnixMillis>,
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    labels: Labels,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    policy: Vec<PolicyRule>,
}

impl ControlPlane {
    /// Renders the template, checks it against the machines that there are, and queues it for them.
    ///
    /// The same idempotency key with the same question gives the same workflow.
    pub(crate) async fn create_workflow(
        &self,
        creation: Creation,
    ) -> Result<(Arc<Workflow>, Vec<String>), Error> {
        let mut creation = creation;
        once::check_key(&creation.idempotency_key)?;
        if creation.template.is_empty() {
            let object = templates::namespace_of(&creation.text, &creation.name, &creation.file)?;
            creation.within = creation.within.narrowed(&object)?;
        }
        if let Some(known) = self.asked_before(&creation).await? {
            return Ok(known);
        }
        if let Some(at) = creation.start_at {
            start::check(at, clock::wall())?;
        }
        // Until it is stored: no machine that it is for goes away in between.
        let _turn = self.inner.machines_turn.read().await;
        let asked = creation.clone();
        let images = self.inner.config.image_policy.clone();
        let new = self
            .inner
            .db
            .with(move |view| new_workflow(view, &images, asked.clone()));
        let new = new.await?;
        let (new, mut warnings) = new;
        warnings.extend(self.without_containerd(&new.creation.definition));
        match self.step_to_its_end(Input::Create(Box::new(new))).await {
            Ok(Answer::Workflow(workflow)) => Ok((workflow, warnings)),
            Ok(Answer::Refused(refusal)) => Err(Error::Refused(refusal.to_string())),
            Ok(answer) => Err(unexpected(&answer)),
            // Somebody used the key in the meantime.
            Err(error) if error.is_conflict() && !creation.idempotency_key.is_empty() => {
                self.asked_before(&creation).await?.ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    /// The actions that are containerd's to run on a machine that is attached and has none. It may boot another image until then.
    fn without_containerd(&self, definition: &Definition) -> Vec<String> {
        let mut warnings = Vec::new();
        for task in &definition.tasks {
            let mut actions = task.actions.iter();
            if let Some(action) = actions.find(|action| action.runtime == Some(Runtime::Containerd))
                && let Some(machine) = self.inner.agents.without_containerd(&task.worker)
            {
                warnings.push(format!(
                    "task {:?}, action {:?}: runtime: containerd, and machine {machine} has booted an image without one: the action will \
                     fail there; build the boot image with --profile containerd and start the machine again, or leave it out",
                    task.name, action.name
                ));
            }
        }
        warnings
    }

    /// What a template renders to, whatever is wrong with it.
    pub(crate) async fn render(&self, mut asked: Creation) -> Result<Rendering, Error> {
        if asked.template.is_empty() {
            let object = templates::namespace_of(&asked.text, &asked.name, &asked.file)?;
            asked.within = asked.within.narrowed(&object)?;
        }
        let images = self.inner.config.image_policy.clone();
        self.inner
            .db
            .with(move |view| {
                let scope = asked.within.scope(view)?;
                making::rendering(view, &scope, &images, source_of(view, &scope, asked.clone())?)
            })
            .await
    }

    /// What a person wants of a workflow. With a key that it was asked with before: the workflow as it is now.
    pub(crate) async fn ask(
        &self,
        reach: &Reach,
        id: &str,
        command: Command,
        once: Option<Once>,
    ) -> Result<Arc<Workflow>, Error> {
        // Whoever reaches everything is spared a look.
        if !reach.is_everything() {
            self.workflow(reach, id).await?;
        }
        let workflow = id.to_owned();
        let input = match once {
            None => Input::Command { workflow, command },
            Some(once) => Input::Asked {
                workflow,
                command,
                once,
            },
        };
        let mut answer = self.step_to_its_end(input.clone()).await?;
        if matches!(answer, Answer::Refused(engine::Refusal::Missing)) {
            answer = match self.archived_workflow(id).await? {
                Some(archived) => self.ask_archived(&archived, input).await?,
                // It may have been brought back since.
                None => self.step_to_its_end(input).await?,
            };
        }
        match answer {
            Answer::Workflow(workflow) => Ok(workflow),
            Answer::Before(_) => self.workflow(reach, id).await,
            Answer::Refused(engine::Refusal::Missing) => Err(read::no_workflow(id)),
            Answer::Refused(refusal @ engine::Refusal::NoSuchTask { .. }) => {
                Err(Error::NotFound(refusal.to_string()))
            }
            Answer::Refused(refusal) => Err(Error::Refused(refusal.to_string())),
            answer => Err(unexpected(&answer)),
        }
    }

    /// An archived workflow as it was when it was archived.
    async fn archived_workflow(&self, id: &str) -> Result<Option<Arc<Workflow>>, Error> {
        let asked = id.to_owned();
        let read = self.rows_of(id).read(move |place| match place.archived {
            Some(_) => load::workflow(place.rows, &asked),
            None => Ok(None),
        });
        read.await
    }

    /// As of one in the store; it is brought back there only for what the engine would do.
    async fn ask_archived(&self, archived: &Workflow, input: Input) -> Result<Answer, Error> {
        let (command, has_key) = match &input {
            Input::Command { command, .. } => (command, false),
            Input::Asked { command, .. } => (command, true),
            _ => return Ok(Answer::Refused(engine::Refusal::Missing)),
        };
        match engine::decide(Some(archived), command, clock::now()) {
            Err(refusal) => return Ok(Answer::Refused(refusal)),
            // That nothing is to be done is kept with a key, and what is kept is written beside the workflow.
            Ok(decision) if decision.events.is_empty() && !has_key => {
                return Ok(Answer::Workflow(Arc::new(decision.workflow)));
            }
            Ok(_) => {}
        }
        let (control, root) = (self.clone(), archived.root().to_owned());
        let id = archived.head.id.clone();
        // Not broken off when who asks goes away: it would be archived again only after a restart.
        let done = tokio::spawn(async move {
            control.bring_back(&id).await?;
            let answer = control.step(&input).await;
            control.follow_up(Next::Ended { root });
            answer
        });
        done.await.map_err(|error| broken_off(&error))?
    }

    /// Sets and takes away labels; those that it comes to are within the bounds, or nothing changes.
    pub(crate) async fn label_workflow(
        &self,
        reach: &Reach,
        id: &str,
        (set, remove): (Labels, BTreeSet<String>),
        by: String,
        once: Option<Once>,
    ) -> Result<Arc<Workflow>, Error> {
        let invalid = |error: LabelError| Error::Invalid(error.to_string());
        for (key, value) in &set {
            labels::check_one(key, value).map_err(invalid)?;
        }
        remove
            .iter()
            .try_for_each(|key| labels::check_key(key))
            .map_err(invalid)?;
        if let Some(key) = set.keys().find(|key| remove.contains(*key)) {
            return Err(Error::Invalid(format!(
                "the label {key:?} is to be set and to be taken away: say one of the two"
            )));
        }
        self.ask(reach, id, Command::Label { set, remove, by }, once)
            .await
    }

    pub(crate) async fn cancel_workflow(
        &self,
        reach: &Reach,
        id: &str,
        (by, reason): (&str, &str),
        once: Option<Once>,
    ) -> Result<Arc<Workflow>, Error> {
        let reason = match reason {
            "" => format!("cancelled by {by}"),
            reason => reason.to_owned(),
        };
        let by = by.to_owned();
        self.ask(reach, id, Command::Cancel { by, reason }, once).await
    }

    async fn asked_before(&self, creation: &Creation) -> Result<Option<(Arc<Workflow>, Vec<String>)>, Error> {
        if creation.idempotency_key.is_empty() {
            return Ok(None);
        }
        let (within, key) = (creation.within.clone(), creation.idempotency_key.clone());
        let asked = self.inner.db.with(move |view| {
            let scope = within.scope(view)?;
            view.get::<Asked>(&idempotency(scope.namespace(), &key))
        });
        let Some(asked) = asked.await?.map(|asked| asked.value) else {
            return Ok(None);
        };
        if asked != Asked::of(creation, asked.id.clone()) {
            return Err(Error::Exists(format!(
                "idempotency key {:?} was used for another workflow, {}: use a new key",
                creation.idempotency_key, asked.id
            )));
        }
        let workflow = self.workflow(creation.within.reach(), &asked.id).await?;
        let text = self.workflow_text(&workflow).await?;
        Ok(Some((
            workflow,
            text.map(|text| text.warnings).unwrap_or_default(),
        )))
    }
}

fn new_workflow(
    view: &View,
    images: &ImagePolicy,
    asked: Creation,
) -> Result<(NewWorkflow, Vec<String>), Error> {
    let scope = asked.within.scope(view)?;
    let id = Uuid::now_v7().to_string();
    let mut extra = Batch::default();
    if !asked.idempotency_key.is_empty() {
        let key = idempotency(scope.namespace(), &asked.idempotency_key);
        extra.absent(&key);
        extra.put(key, &Asked::of(&asked, id.clone()));
    }
    let identity = Identity {
        id: id.clone(),
        parent: None,
        idempotency_key: asked.idempotency_key.clone(),
        by: asked.by.clone(),
    };
    let (start_at, policy) = (asked.start_at, asked.policy.clone());
    let (mut creation, text) = making::make(view, &scope, images, source_of(view, &scope, asked)?, identity)?;
    creation.start_at = start_at;
    creation.policy = policy;
    extra.put(format!("workflow-text/{id}"), &text);
    let new = NewWorkflow {
        creation,
        extra: extra.into_commit(),
    };
    Ok((new, text.warnings))
}

/// Where a client's key is kept: each namespace has its own.
fn idempotency(namespace: &str, key: &str) -> String {
    format!("idempotency/{namespace}/{key}")
}

/// With the text of the template that it names.
fn source_of(view: &View, scope: &Scope, asked: Creation) -> Result<Source, Error> {
    let stored = match asked.template.as_str() {
        "" => Source {
            text: asked.text,
            ..Source::default()
        },
        stored => {
            let template = templates::find(view, scope, stored)?;
            Source {
                template: template.name,
                template_id: template.id,
                template_version: template.version,
                template_labels: template.labels,
                text: template.text,
                ..Source::default()
            }
        }
    };
    Ok(Source {
        labels: asked.labels,
        file: asked.file,
        devices: asked.devices,
        machine: asked.machine,
        inputs: asked.inputs,
        typed_inputs: asked.typed_inputs,
        name: asked.name,
        ..stored
    })
}

/// The coordinator answers each input with its own kind.
fn unexpected(answer: &Answer) -> Error {
    Error::Refused(format!("the control plane answered with {answer:?}"))
}

impl Asked {
    fn of(creation: &Creation, id: String) -> Self {
        Self {
            id,
            template: creation.template.clone(),
            devices: creation.devices.clone(),
            name: creation.name.clone(),
            inputs: creation.inputs.clone(),
            typed_inputs: creation.typed_inputs.clone(),
            text: creation.text.clone(),
            machine: creation.machine.clone(),
            start_at: creation.start_at,
            labels: creation.labels.clone(),
            policy: creation.policy.clone(),
        }
    }
}
