//! Machines in the store: what applying and deleting them comes to, and who is found by name or MAC.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::Ipv4Addr;

use macaddr::MacAddr6;
use serde_json::Value;
use store::Revision;
use workflow::engine::{self, UnixMillis};
use yaml::{Finding, Kind};

use super::document::{Draft, Found, Served, Taken, check_taken, read};
use super::file::{self, File, Shown};
use super::{Machine, inventory_key, mac_text, parse_mac, secrets};
use crate::database::{Batch, Seen, Stored, View};
use crate::error::Error;
use crate::namespaces::{self, Reach, Scope};
use crate::steps::{load, rows};

/// What files of machines change.
#[derive(Debug, Default)]
pub struct Applied {
    pub created: Vec<String>,
    pub updated: Vec<String>,
    /// Those that are stored as they are in the files: nothing is written of them.
    pub unchanged: Vec<String>,
    /// In a dry run, each of them all in the order of the files; `steps` are none then.
    pub changes: Vec<Change>,
    /// Those of them that are of another namespace now: what waits for them there is theirs, once they are woken.
    pub moved: Vec<String>,
    /// A line each, with its place in the file.
    pub warnings: Vec<String>,
    /// To be committed one after the other. What is broken off can be applied again.
    pub steps: Vec<Batch>,
}

/// What applying a record comes to.
#[derive(Debug)]
pub struct Change {
    pub name: String,
    pub namespace: String,
    pub kind: ChangeKind,
    /// The document that is stored; `None`: there is none.
    pub before: Option<Value>,
    /// As it would be stored.
    pub after: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Created,
    Unchanged,
    Updated,
}

impl ChangeKind {
    /// As it is said: `created`.
    pub fn word(self) -> &'static str {
        match self {
            ChangeKind::Created => "created",
            ChangeKind::Unchanged => "unchanged",
            ChangeKind::Updated => "updated",
        }
    }
}

/// How files are applied.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Addresses of this server.
    pub served: Vec<Served>,
    /// By name, the revision that has to have written the record of a machine.
    pub expected: BTreeMap<String, Revision>,
    /// Everything is checked, nothing is to be written.
    pub is_dry_run: bool,
    /// How people were shown what they give back.
    pub shown: Shown,
}

impl Default for Terms {
    fn default() -> Self {
        Terms {
            served: Vec::new(),
            expected: BTreeMap::new(),
            is_dry_run: false,
            shown: |text| text.into(),
        }
    }
}

/// Writes in one commit, below the store's limit with room for what a machine needs.
const BATCH_OPERATIONS: usize = 64;

/// The machines that stand in a file of any content, as far as the file alone tells.
///
/// # Errors
/// Everything that is wrong with it.
pub fn check(text: &str) -> Result<Vec<Machine>, Vec<Finding>> {
    let file = File {
        text: text.to_owned(),
        ..File::default()
    };
    let (drafts, found) = read(&[file], &[], file::Stored::NOTHING);
    let problems = found.into_first();
    match problems.is_empty() {
        true => Ok(drafts.into_iter().map(|draft| draft.machine).collect()),
        false => Err(problems),
    }
}

/// The names of the machines in files, as far as the files alone tell.
///
/// # Errors
/// Everything that is wrong with them, a line each with its file.
pub fn names_in(files: &[File]) -> Result<Vec<String>, Vec<String>> {
    let (drafts, found) = read(files, &[], file::Stored::NOTHING);
    let (problems, _) = found.into_lines();
    match problems.is_empty() {
        true => Ok(drafts.into_iter().map(|draft| draft.machine.name).collect()),
        false => Err(problems),
    }
}

/// As [`apply_all`], of one file on no other terms.
///
/// # Errors
/// As [`apply_all`].
pub fn apply(
    view: &View,
    scope: &Scope,
    file: &File,
    served: &[Served],
    now: UnixMillis,
) -> Result<Applied, Error> {
    let terms = Terms {
        served: served.to_owned(),
        ..Terms::default()
    };
    apply_all(view, scope, std::slice::from_ref(file), &terms, now)
}

/// Creates and updates the machines of files. `now` is what the clock shows. A new machine is of the namespace that its record
/// names, else of the scope's.
///
/// Nothing is to be changed when anything is wrong. One application at a time: what is unique is checked against what stays.
///
/// # Errors
/// [`Error::Invalid`] with every problem, file, line and column. [`Error::Changed`] when a machine is not as it is expected.
pub fn apply_all(
    view: &View,
    scope: &Scope,
    files: &[File],
    terms: &Terms,
    now: UnixMillis,
) -> Result<Applied, Error> {
    let document = |name: &str| {
        let found = view.get::<Machine>(&format!("machine/{name}"));
        // What fails here fails again where the record itself is read.
        Some(found.ok().flatten()?.value.document)
    };
    let known = file::Stored {
        document: &document,
        shown: terms.shown,
    };
    let (drafts, found) = read(files, &terms.served, known);
    let (mut drafts, before, taken) = stored(view, scope, drafts)?;
    check_taken(&drafts, &taken, &found);
    place(view, scope, &mut drafts, &before, &found)?;
    secrets::check(view, &drafts, &found)?;
    let (problems, warnings) = found.into_lines();
    if !problems.is_empty() {
        return Err(Error::Invalid(problems.join("\n")));
    }
    check_expected(&drafts, &before, &terms.expected)?;
    let mut applied = Applied {
        warnings,
        ..Applied::default()
    };
    let renamed: Vec<_> = drafts
        .iter()
        .zip(&before)
        .filter_map(|(draft, before)| {
            let before = &before.as_ref()?.value;
            let now = draft.machine.workers();
            let gone = before
                .workers()
                .into_iter()
                .find(|worker| !now.contains(worker))?;
            Some((before.name.clone(), gone))
        })
        .collect();
    check_idle(view, &renamed)?;
    let mut moved = moved(view, &drafts, &before)?;
    for (draft, before) in drafts.iter().zip(&before) {
        let Some(before) = before else { continue };
        let now = draft.machine.addresses();
        let gone = before.value.addresses();
        let gone: Vec<Ipv4Addr> = gone.into_iter().filter(|old| !now.contains(old)).collect();
        check_unused(view, &before.value, &gone)?;
    }
    // What is given up goes first, so that a MAC may move from one machine of the file to another.
    let mut given_up = Vec::new();
    let mut written = Vec::new();
    for (draft, before) in drafts.into_iter().zip(before) {
        let mut machine = draft.machine;
        machine.updated_at = now;
        machine.created_at = before.as_ref().map_or(now, |before| before.value.created_at);
        let kind = match &before {
            None => ChangeKind::Created,
            Some(before) if is_same(&before.value, &machine) => ChangeKind::Unchanged,
            Some(_) => ChangeKind::Updated,
        };
        let told = match kind {
            ChangeKind::Created => &mut applied.created,
            ChangeKind::Unchanged => &mut applied.unchanged,
            ChangeKind::Updated => &mut applied.updated,
        };
        told.push(machine.name.clone());
        if terms.is_dry_run {
            applied.changes.push(Change {
                name: machine.name,
                namespace: machine.namespace,
                kind,
                before: before.map(|before| before.value.document),
                after: machine.document,
            });
            continue;
        }
        if kind == ChangeKind::Unchanged {
            continue;
        }
        let mut batch = Batch::default();
        let key = format!("machine/{}", machine.name);
        batch.expect(&key, before.as_ref().map(|before| before.modified));
        let keys = index_keys(&machine);
        if let Some(before) = before {
            index_keys(&before.value)
                .into_iter()
                .filter(|key| !keys.contains(key))
                .for_each(|key| {
                    let mut batch = Batch::default();
                    batch.delete(key);
                    given_up.push(batch);
                });
        }
        // In the same commit: no step that knew the old namespace comes after the record with the new one.
        if let Some(work) = moved.remove(&machine.name) {
            applied.moved.push(machine.name.clone());
            batch.merge(work);
        }
        keys.into_iter().for_each(|key| batch.put(key, &machine.name));
        batch.put(key, &machine);
        written.push(batch);
    }
    given_up.extend(written);
    applied.steps = in_steps(given_up);
    Ok(applied)
}

/// Whether a record says what is stored, whenever it was applied.
fn is_same(stored: &Machine, machine: &Machine) -> bool {
    // Through the form in which it is stored, as a number may come back from that a little different.
    let written = serde_json::to_vec(machine).ok();
    let read = written.and_then(|written| serde_json::from_slice::<Machine>(&written).ok());
    read.is_some_and(|machine| {
        let machine = Machine {
            created_at: stored.created_at,
            updated_at: stored.updated_at,
            ..machine
        };
        machine == *stored
    })
}

/// Finds what was changed since somebody has looked at it.
///
/// # Errors
/// [`Error::Changed`].
fn check_expected(
    drafts: &[Draft],
    before: &[Option<Stored<Machine>>],
    expected: &BTreeMap<String, Revision>,
) -> Result<(), Error> {
    for (draft, before) in drafts.iter().zip(before) {
        let name = &draft.machine.name;
        let (Some(expected), now) = (expected.get(name), before.as_ref().map(|before| before.modified))
        else {
            continue;
        };
        let what = match now {
            Some(now) if now == *expected => continue,
            Some(_) => "changed",
            None => "deleted",
        };
        return Err(Error::Changed(format!(
            "machine {name:?} was {what} by somebody else meanwhile, and nothing was written: look at it with `farrier machine get \
             {name}`, and do it again"
        )));
    }
    Ok(())
}

/// Forgets a machine: the commits that do it, in order. Its ended workflows stay.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Refused`] while it has a workflow that has not ended.
pub fn deletion(view: &View, reach: &Reach, name_or_mac: &str) -> Result<Vec<Batch>, Error> {
    let machine = find(view, reach, name_or_mac)?;
    let name = &machine.value.name;
    for worker in machine.value.index_names() {
        if let Some(id) = first_open(view, &worker)? {
            return Err(Error::Refused(format!(
                "machine {name:?} has workflow {id}, which has not ended: wait for it, or cancel it with \
                 `farrier workflow cancel {id}`"
            )));
        }
    }
    // Its record is the last to go: what is broken off can be deleted again.
    let mut steps = Vec::new();
    for interface in &machine.value.interfaces {
        let mac = mac_text(interface.mac);
        let mut batch = Batch::default();
        batch.delete(format!("boot/{mac}"));
        batch.delete(format!("agent/{mac}"));
        batch.delete(inventory_key(interface.mac));
        batch.delete(format!("boot-ring/{mac}"));
        batch.delete_below(&format!("boot-log/{mac}/"));
        steps.push(batch);
    }
    let mut batch = Batch::default();
    batch.unchanged(format!("machine/{name}"), machine.modified);
    batch.delete(format!("machine/{name}"));
    index_keys(&machine.value)
        .into_iter()
        .for_each(|key| batch.delete(key));
    steps.push(batch);
    Ok(in_steps(steps))
}

/// As few commits as there may be, in the same order.
fn in_steps(batches: Vec<Batch>) -> Vec<Batch> {
    let mut steps = Vec::new();
    let mut step = Batch::default();
    for batch in batches {
        if step.len() + batch.len() > BATCH_OPERATIONS && !step.is_empty() {
            steps.push(std::mem::take(&mut step));
        }
        step.merge(batch);
    }
    if !step.is_empty() {
        steps.push(step);
    }
    steps
}

/// Every machine within reach, by name.
///
/// # Errors
/// When the store cannot be read.
pub fn all(view: &View, reach: &Reach) -> Result<Vec<Machine>, Error> {
    let all = view.list::<Machine>("machine/")?.into_iter();
    let all = all.map(|(_, machine)| machine);
    Ok(all.filter(|machine| reach.has(&machine.namespace)).collect())
}

/// The machine with this MAC, in whatever namespace: for what the server does for machines, not for people.
///
/// # Errors
/// When the store cannot be read.
pub fn with_mac(view: &View, mac: MacAddr6) -> Result<Option<Machine>, Error> {
    let Some(name) = view.get::<String>(&format!("mac/{}", mac_text(mac)))? else {
        return Ok(None);
    };
    Ok(view
        .get(&format!("machine/{}", name.value))?
        .map(|found| found.value))
}

/// The machine of this name.
pub fn named(view: &View, reach: &Reach, name: &str) -> Result<Option<Machine>, Error> {
    let found = view.get::<Machine>(&format!("machine/{name}"))?;
    Ok(found
        .map(|found| found.value)
        .filter(|machine| reach.has(&machine.namespace)))
}

/// The namespace of the machine of this name; `None`: there is none.
pub fn namespace_of(view: &View, name: &str) -> Result<Option<String>, Error> {
    Ok(match namespace_unless(view, name, None)? {
        Seen::Now(found) => Some(found.value),
        Seen::AsKnown | Seen::Nothing => None,
    })
}

/// As [`namespace_of`], for who knows it as it was when revision `known` wrote the record.
///
/// # Errors
/// When the store cannot be read.
pub fn namespace_unless(view: &View, name: &str, known: Option<Revision>) -> Result<Seen<String>, Error> {
    /// Of a record, which may be long, nothing else is kept.
    #[derive(serde::Deserialize)]
    struct Whose {
        #[serde(default = "namespaces::default_namespace")]
        namespace: String,
    }
    Ok(
        match view.get_unless::<Whose>(&format!("machine/{name}"), known)? {
            Seen::Nothing => Seen::Nothing,
            Seen::AsKnown => Seen::AsKnown,
            Seen::Now(found) => Seen::Now(Stored {
                value: found.value.namespace,
                modified: found.modified,
            }),
        },
    )
}

/// The first workflow, in order of creation, that a machine has under this name and that has not ended.
///
/// Stores of before names had an alphabet may have a machine `a/b` beside `a`: what is its own is no workflow of `a`.
pub fn first_open(view: &View, name: &str) -> Result<Option<String>, Error> {
    let prefix = format!("open/{name}/");
    let first = view.first(&prefix)?;
    if !first.as_ref().is_some_and(|id| id.contains('/')) {
        return Ok(first);
    }
    let all = view.list::<serde::de::IgnoredAny>(&prefix)?;
    Ok(all.into_iter().map(|(id, _)| id).find(|id| !id.contains('/')))
}

/// The machine that a task's `worker` means.
pub fn with_worker(view: &View, reach: &Reach, worker: &str) -> Result<Option<Machine>, Error> {
    let found = match parse_mac(worker) {
        Some(mac) => with_mac(view, mac)?,
        None => match view.get::<String>(&format!("agent-id/{worker}"))? {
            Some(name) => named(view, reach, &name.value)?,
            None => None,
        },
    };
    Ok(found.filter(|machine| reach.has(&machine.namespace)))
}

/// The machine with this address.
///
/// # Errors
/// When the store cannot be read.
pub fn with_address(view: &View, reach: &Reach, address: Ipv4Addr) -> Result<Option<Machine>, Error> {
    let Some(name) = view.get::<String>(&address_key(address))? else {
        return Ok(None);
    };
    named(view, reach, &name.value)
}

/// The machine that somebody means with a MAC, an agent id, a name or an address. No word means two: names and agent ids
/// that are addresses are the machine's own.
///
/// # Errors
/// When the store cannot be read.
pub fn meant(view: &View, reach: &Reach, word: &str) -> Result<Option<Machine>, Error> {
    if let Some(machine) = with_worker(view, reach, word)? {
        return Ok(Some(machine));
    }
    if let Some(machine) = named(view, reach, word)? {
        return Ok(Some(machine));
    }
    match word.parse() {
        Ok(address) => with_address(view, reach, address),
        Err(_) => Ok(None),
    }
}

/// What a word is that somebody means a machine with, for "no machine has …".
pub fn kind_of_word(word: &str) -> &'static str {
    if parse_mac(word).is_some() {
        "MAC"
    } else if word.parse::<Ipv4Addr>().is_ok() {
        "address"
    } else {
        "name or agent id"
    }
}

/// The machine of this name, or with this MAC or address.
///
/// # Errors
/// [`Error::NotFound`].
pub fn find(view: &View, reach: &Reach, name_or_mac: &str) -> Result<Stored<Machine>, Error> {
    let is_reached = |found: &Stored<Machine>| reach.has(&found.value.namespace);
    let found = view.get::<Machine>(&format!("machine/{name_or_mac}"))?;
    if let Some(found) = found.filter(is_reached) {
        return Ok(found);
    }
    if let Ok(address) = name_or_mac.parse() {
        let name = view.get::<String>(&address_key(address))?;
        if let Some(name) = name
            && let Some(found) = view.get(&format!("machine/{}", name.value))?.filter(is_reached)
        {
            return Ok(found);
        }
        return Err(Error::NotFound(format!(
            "no machine has address {address}: see `farrier machine list`"
        )));
    }
    if let Some(mac) = parse_mac(name_or_mac) {
        let name = view.get::<String>(&format!("mac/{}", mac_text(mac)))?;
        if let Some(name) = name
            && let Some(found) = view.get::<Machine>(&format!("machine/{}", name.value))?
            && is_reached(&found)
        {
            return Ok(found);
        }
        return Err(Error::NotFound(format!(
            "no machine has MAC {}: see `farrier machine list`",
            mac_text(mac)
        )));
    }
    let names = names(view, reach)?;
    let names = names.iter().map(String::as_str);
    let meant = yaml::meant(name_or_mac, names, ": see `farrier machine list`");
    Err(Error::NotFound(format!(
        "no machine is named {name_or_mac:?}{meant}"
    )))
}

/// Names among which a misspelt one is looked for.
const NAMES: usize = 10_000;

/// Names of machines that are reached.
fn names(view: &View, reach: &Reach) -> Result<Vec<String>, Error> {
    #[derive(serde::Deserialize)]
    struct Of {
        #[serde(default = "namespaces::default_namespace")]
        namespace: String,
    }
    let all = view.page::<Of>("machine/", "machine/", NAMES)?;
    let reached = all.into_iter().filter(|(_, of)| reach.has(&of.namespace));
    Ok(reached.map(|(name, _)| name).collect())
}

type Known = (Vec<Draft>, Vec<Option<Stored<Machine>>>, Taken);

/// What the store has of the drafts, and what machines outside the file have of what the drafts claim.
fn stored(view: &View, scope: &Scope, drafts: Vec<Draft>) -> Result<Known, Error> {
    let names: HashSet<&str> = drafts.iter().map(|draft| draft.machine.name.as_str()).collect();
    let mut before = Vec::new();
    let mut taken = Taken::default();
    let owner = |key: String| -> Result<Option<String>, Error> {
        let owner = view.get::<String>(&key)?.map(|found| found.value);
        let Some(owner) = owner.filter(|owner| !names.contains(owner.as_str())) else {
            return Ok(None);
        };
        let namespace = namespace_of(view, &owner)?;
        Ok(Some(match namespace {
            Some(namespace) if !scope.reach().has(&namespace) => "a machine of another namespace".to_owned(),
            _ => format!("machine {owner:?}"),
        }))
    };
    for draft in &drafts {
        before.push(view.get(&format!("machine/{}", draft.machine.name))?);
        for (mac, _) in &draft.macs {
            if let Some(owner) = owner(format!("mac/{}", mac_text(*mac)))? {
                taken.macs.insert(*mac, owner);
            }
        }
        for (address, _) in &draft.addresses {
            if let Some(owner) = owner(address_key(*address))? {
                taken.addresses.insert(*address, owner);
            }
        }
        if let Some((id, _)) = &draft.agent_id
            && let Some(owner) = owner(format!("agent-id/{id}"))?
        {
            taken.agent_ids.insert(id.clone(), owner);
        }
        let name = &draft.machine.name;
        if let Some(owner) = owner(format!("agent-id/{name}"))? {
            taken.agents_named.insert(name.clone(), owner);
        }
        // Those of the file are compared with each other.
        if let Some((id, _)) = &draft.agent_id
            && !names.contains(id.as_str())
            && view
                .get::<serde::de::IgnoredAny>(&format!("machine/{id}"))?
                .is_some()
        {
            taken.names.insert(id.clone());
        }
    }
    Ok((drafts, before, taken))
}

/// Says of which namespace each machine is to be, and finds what is wrong with that.
fn place(
    view: &View,
    scope: &Scope,
    drafts: &mut [Draft],
    before: &[Option<Stored<Machine>>],
    found: &Found,
) -> Result<(), Error> {
    for (draft, before) in drafts.iter_mut().zip(before) {
        let findings = found.of(draft);
        let name = &draft.machine.name;
        let before = before.as_ref().map(|before| before.value.namespace.as_str());
        let problem = |place, kind, message: String| findings.problem(place, kind, message);
        if before.is_some_and(|before| !scope.reach().has(before)) {
            let message = format!(
                "machine {name:?} is there already, in another namespace: names of machines are unique on a server; use another \
                 name"
            );
            problem(draft.place, Kind::Conflict, message);
            continue;
        }
        match (&draft.namespace, before) {
            (Some((namespace, at)), _) => match Scope::within(view, scope.reach(), namespace) {
                Ok(within) => draft.machine.namespace = within.namespace().to_owned(),
                Err(Error::NotFound(message)) => problem(*at, Kind::Value, message),
                Err(error) => return Err(error),
            },
            (None, Some(before)) if before != scope.namespace() => {
                let message = format!(
                    "machine {name:?} is of namespace {before:?}, and would be moved to {:?}: say so with `namespace: {}` in its \
                     record, or apply it with `-n {before}`",
                    scope.namespace(),
                    scope.namespace()
                );
                problem(draft.place, Kind::Conflict, message);
            }
            (None, _) => scope.namespace().clone_into(&mut draft.machine.namespace),
        }
    }
    Ok(())
}

/// What is to be written of machines that move to another namespace: what is kept for each, as it is, so that a step that has
/// found it under its old namespace meets a conflict.
///
/// # Errors
/// [`Error::Refused`] while a workflow has or waits for one.
fn moved(
    view: &View,
    drafts: &[Draft],
    before: &[Option<Stored<Machine>>],
) -> Result<HashMap<String, Batch>, Error> {
    let mut moved = HashMap::new();
    for (draft, before) in drafts.iter().zip(before) {
        let (name, to) = (&draft.machine.name, &draft.machine.namespace);
        let Some(before) = before.as_ref().filter(|before| before.value.namespace != *to) else {
            continue;
        };
        for index in before.value.index_names() {
            if let Some(id) = first_open(view, &index)? {
                return Err(Error::Refused(format!(
                    "machine {name:?} cannot move to namespace {to:?}: it has workflow {id}, which has not ended; wait for it, or \
                     cancel it with `farrier workflow cancel {id}`"
                )));
            }
        }
        let key = rows::machine_work(name);
        let work = view.get::<engine::Machine>(&key)?;
        if let Some(current) = work.as_ref().and_then(|work| work.value.current.as_ref()) {
            return Err(Error::Refused(format!(
                "machine {name:?} cannot move to namespace {to:?}: attempt {} has not provably stopped on it; let it boot again",
                current.attempt
            )));
        }
        let mut batch = Batch::default();
        batch.expect(&key, work.as_ref().map(|work| work.modified));
        batch.put(&key, &work.map(|work| work.value).unwrap_or_default());
        moved.insert(name.clone(), batch);
    }
    Ok(moved)
}

/// Workflows find a machine by its workers: those stay with it while a workflow needs them.
fn check_idle(view: &View, renamed: &[(String, String)]) -> Result<(), Error> {
    for (name, gone) in renamed {
        if let Some(id) = first_open(view, name)? {
            return Err(Error::Refused(format!(
                "machine {name:?} has workflow {id}, which has not ended, and would not be {gone} any more: wait for it, or \
                 cancel it with `farrier workflow cancel {id}`"
            )));
        }
    }
    Ok(())
}

/// An expression may have given an address as the worker of something that has not ended: it then stays with the machine,
/// as its MACs do.
fn check_unused(view: &View, machine: &Machine, addresses: &[Ipv4Addr]) -> Result<(), Error> {
    let name = &machine.name;
    if addresses.is_empty() {
        return Ok(());
    }
    let Some(first) = first_open(view, name)? else {
        return Ok(());
    };
    // Sub-workflows are made after their root, and ids are in the order of creation.
    let prefix = format!("of/{name}/");
    let mut from = format!("{prefix}{first}");
    loop {
        let page = view.page::<serde::de::IgnoredAny>(&prefix, &from, OPEN_PAGE)?;
        let Some((last, _)) = page.last() else {
            return Ok(());
        };
        from = format!("{prefix}{last}\0");
        for (id, _) in page {
            let Some(workflow) = load::workflow(view, &id)? else {
                continue;
            };
            let is_used = |address: &&Ipv4Addr| {
                let text = address.to_string();
                let mut open = workflow
                    .executions
                    .values()
                    .filter(|execution| !execution.state.is_final());
                open.any(|execution| execution.worker == text)
            };
            if let Some(address) = addresses.iter().find(is_used) {
                return Err(Error::Refused(format!(
                    "machine {name:?} has workflow {id}, which has not ended and calls it {address}: wait for it, or cancel \
                     it with `farrier workflow cancel {id}`"
                )));
            }
        }
    }
}

/// Rows of [`check_unused`] that are read at once.
const OPEN_PAGE: usize = 256;

/// The keys that lead to the machine's name.
fn index_keys(machine: &Machine) -> Vec<String> {
    let macs = machine
        .interfaces
        .iter()
        .map(|interface| format!("mac/{}", mac_text(interface.mac)));
    let addresses = machine.addresses().into_iter().map(address_key);
    let agent_id = machine.agent_id.iter().map(|id| format!("agent-id/{id}"));
    macs.chain(addresses).chain(agent_id).collect()
}

fn address_key(address: Ipv4Addr) -> String {
    format!("address/{address}")
}
