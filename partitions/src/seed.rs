//! What an installed system reads at its first boot, as templates declare it: a seed for cloud-init, or a configuration of Ignition.
//!
//! Source: cloud-init's documentation, "User-data formats", "NoCloud", "Config drive", and `cloudinit/user_data.py`; OpenStack Nova, "Metadata
//! service"; Ignition's configuration specification 3.4 and coreos-installer, which puts it on the partition of /boot.

use serde_json::{Map, Value};

use crate::FieldProblem;

/// A text of a seed: what a template may give an action as its input.
pub const MAX_SEED_TEXT_BYTES: usize = 256 << 10;
/// Where cloud-init looks for the header of MIME. Source: `cloudinit/user_data.py`, `convert_string`.
const MIME_WITHIN: usize = 4096;
/// What the user data of cloud-init may begin with. Source: `cloudinit/handlers/__init__.py`, `INCLUSION_TYPES_MAP`.
const HEADERS: [&str; 6] = [
    "#cloud-config",
    "#!",
    "#include",
    "#cloud-boothook",
    "#part-handler",
    JINJA,
];
const JINJA: &str = "## template: jinja";
const MAX_INSTANCE_ID_BYTES: usize = 255;

/// Who reads a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datasource {
    /// cloud-init's `ConfigDrive`, and all that read OpenStack's: version 2.
    ConfigDrive,
    Ignition,
    /// cloud-init's `NoCloud`.
    NoCloud,
}

/// How it lies on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Files in a filesystem that is there.
    Files,
    /// A partition of its own, whose label says what it is.
    Iso9660,
}

/// The words of a template; `None`: left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct SeedFields<'a> {
    pub datasource: Option<&'a str>,
    pub form: Option<&'a str>,
    pub dest_path: Option<&'a str>,
    pub fs_type: Option<&'a str>,
    pub instance_id: Option<&'a str>,
    pub meta_data: Option<&'a str>,
    pub network_config: Option<&'a str>,
    pub only_empty: Option<&'a str>,
    pub user_data: Option<&'a str>,
    pub vendor_data: Option<&'a str>,
}

/// A seed as it is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    pub datasource: Datasource,
    pub form: Form,
    instance_id: Option<String>,
    meta_data: Option<String>,
    network_config: Option<String>,
    user_data: Option<String>,
    vendor_data: Option<String>,
}

impl Datasource {
    const ALL: [Datasource; 3] = [Datasource::ConfigDrive, Datasource::Ignition, Datasource::NoCloud];

    /// As templates name it.
    pub fn name(self) -> &'static str {
        match self {
            Datasource::ConfigDrive => "configdrive",
            Datasource::Ignition => "ignition",
            Datasource::NoCloud => "nocloud",
        }
    }

    /// The label by which the filesystem is found that holds it; `None`: nobody looks for one.
    pub fn label(self) -> Option<&'static str> {
        match self {
            Datasource::ConfigDrive => Some("config-2"),
            Datasource::Ignition => None,
            Datasource::NoCloud => Some("cidata"),
        }
    }

    /// The folder in the installed system where it is looked for; of Ignition in the filesystem of /boot.
    pub fn folder(self) -> &'static str {
        match self {
            Datasource::ConfigDrive => "/var/lib/cloud/seed/config_drive",
            Datasource::Ignition => "/ignition",
            Datasource::NoCloud => "/var/lib/cloud/seed/nocloud",
        }
    }

    /// Every file that it may have, as a path below its folder.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Datasource::ConfigDrive => &[
                "openstack/latest/meta_data.json",
                "openstack/latest/network_data.json",
                "openstack/latest/user_data",
                "openstack/latest/vendor_data.json",
            ],
            Datasource::Ignition => &["config.ign"],
            Datasource::NoCloud => &["meta-data", "network-config", "user-data", "vendor-data"],
        }
    }
}

impl Form {
    const ALL: [Form; 2] = [Form::Files, Form::Iso9660];

    /// As templates name it.
    pub fn name(self) -> &'static str {
        match self {
            Form::Files => "files",
            Form::Iso9660 => "iso9660",
        }
    }
}

impl Seed {
    /// From the words of a template.
    ///
    /// # Errors
    /// Every problem: what its reader would not take, or would not look for.
    pub fn parse(fields: &SeedFields<'_>) -> Result<Seed, Vec<FieldProblem>> {
        let mut problems = Vec::new();
        let mut say = |variable, message| problems.push(FieldProblem { variable, message });
        let datasource = match fields.datasource {
            None => Some(Datasource::NoCloud),
            Some(text) => Datasource::ALL.into_iter().find(|one| one.name() == text),
        };
        let form = match fields.form {
            None => Some(Form::Files),
            Some(text) => Form::ALL.into_iter().find(|one| one.name() == text),
        };
        if datasource.is_none() {
            let words = Datasource::ALL.map(Datasource::name).join(", ");
            say("DATASOURCE", unknown("datasource", fields.datasource, &words));
        }
        if form.is_none() {
            let words = Form::ALL.map(Form::name).join(", ");
            say("FORM", unknown("form", fields.form, &words));
        }
        let (Some(datasource), Some(form)) = (datasource, form) else {
            return Err(problems);
        };
        for (variable, message) in does_not_fit(datasource, form, fields) {
            say(variable, message);
        }
        if let Some(id) = fields.instance_id
            && (id.len() > MAX_INSTANCE_ID_BYTES || id.chars().any(|c| c.is_control() || c.is_whitespace()))
        {
            let short = shortened(id);
            say(
                "INSTANCE_ID",
                format!(
                    "instance_id {short:?} is none: write {MAX_INSTANCE_ID_BYTES} B at most, without spaces"
                ),
            );
        }
        for (variable, text) in [
            ("META_DATA", fields.meta_data),
            ("NETWORK_CONFIG", fields.network_config),
            ("USER_DATA", fields.user_data),
            ("VENDOR_DATA", fields.vendor_data),
        ] {
            let Some(text) = text else { continue };
            let field = variable.to_lowercase();
            if text.len() > MAX_SEED_TEXT_BYTES {
                let len = text.len();
                say(
                    variable,
                    format!("{field} has {len} B, {MAX_SEED_TEXT_BYTES} B at most"),
                );
            } else if text.contains('\0') {
                say(variable, format!("{field} has a zero byte: give a text"));
            } else if let Some(why) = wrong_text(variable, datasource, text) {
                say(variable, format!("{field} {why}"));
            }
        }
        let own = |text: Option<&str>| text.map(str::to_owned);
        match problems.is_empty() {
            true => Ok(Seed {
                datasource,
                form,
                instance_id: own(fields.instance_id),
                meta_data: own(fields.meta_data),
                network_config: own(fields.network_config),
                user_data: own(fields.user_data),
                vendor_data: own(fields.vendor_data),
            }),
            false => Err(problems),
        }
    }

    /// Its files, as paths below the folder, in order, and what is in them. `machine_id` is the instance id where the template gives none.
    pub fn files(&self, machine_id: &str) -> Vec<(&'static str, String)> {
        let id = self.instance_id.as_deref().unwrap_or(machine_id);
        let text = |text: &Option<String>| text.clone();
        let files = match self.datasource {
            Datasource::NoCloud => vec![
                (
                    "meta-data",
                    Some(no_cloud_meta_data(self.meta_data.as_deref(), id)),
                ),
                ("network-config", text(&self.network_config)),
                // cloud-init takes a seed without this file for none.
                ("user-data", Some(self.user_data.clone().unwrap_or_default())),
                ("vendor-data", text(&self.vendor_data)),
            ],
            Datasource::ConfigDrive => vec![
                (
                    "openstack/latest/meta_data.json",
                    Some(drive_meta_data(self.meta_data.as_deref(), id)),
                ),
                ("openstack/latest/network_data.json", text(&self.network_config)),
                ("openstack/latest/user_data", text(&self.user_data)),
                (
                    "openstack/latest/vendor_data.json",
                    self.vendor_data.as_deref().map(drive_vendor_data),
                ),
            ],
            Datasource::Ignition => vec![("config.ign", text(&self.user_data))],
        };
        let given = |(path, content): (_, Option<String>)| Some((path, content?));
        files.into_iter().filter_map(given).collect()
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

fn unknown(field: &str, text: Option<&str>, known: &str) -> String {
    let short = shortened(text.unwrap_or_default());
    format!("{field} {short:?} is not known: it is one of {known}")
}

/// What is given, and has no place there.
fn does_not_fit(datasource: Datasource, form: Form, fields: &SeedFields<'_>) -> Vec<(&'static str, String)> {
    let mut said = Vec::new();
    if datasource == Datasource::Ignition {
        if form == Form::Iso9660 {
            said.push((
                "FORM",
                "form \"iso9660\" is none of ignition, which looks for no partition on a machine of its own: leave it out for a file in \
                 the filesystem of /boot, or take datasource configdrive and boot with ignition.platform.id=openstack"
                    .to_owned(),
            ));
        }
        for (variable, given) in [
            ("INSTANCE_ID", fields.instance_id),
            ("META_DATA", fields.meta_data),
            ("NETWORK_CONFIG", fields.network_config),
            ("VENDOR_DATA", fields.vendor_data),
        ] {
            if given.is_some() {
                let field = variable.to_lowercase();
                said.push((
                    variable,
                    format!("{field} is nothing that ignition reads: all is in user_data"),
                ));
            }
        }
    }
    let (other, given) = match form {
        Form::Files => ("iso9660", [("ONLY_EMPTY", fields.only_empty), ("", None)]),
        Form::Iso9660 => (
            "files",
            [("DEST_PATH", fields.dest_path), ("FS_TYPE", fields.fs_type)],
        ),
    };
    for (variable, value) in given {
        if value.is_some() {
            let field = variable.to_lowercase();
            said.push((
                variable,
                format!(
                    "{field} is of form {other}, and this is {}: leave it out",
                    form.name()
                ),
            ));
        }
    }
    said
}

fn wrong_text(variable: &str, datasource: Datasource, text: &str) -> Option<String> {
    match variable {
        "META_DATA" => wrong_meta_data(datasource, text),
        "NETWORK_CONFIG" => wrong_network(datasource, text),
        "USER_DATA" => wrong_user_data(datasource, text),
        _ => wrong_vendor_data(datasource, text),
    }
}

fn wrong_user_data(datasource: Datasource, text: &str) -> Option<String> {
    match datasource {
        Datasource::Ignition => wrong_ignition(text),
        // Ignition reads it there, too.
        Datasource::ConfigDrive if text.trim_start().starts_with('{') => wrong_ignition(text),
        Datasource::ConfigDrive | Datasource::NoCloud => wrong_cloud_data(text),
    }
}

/// Of user data and vendor data: what cloud-init does not know it would leave aside with a warning in its log.
fn wrong_cloud_data(text: &str) -> Option<String> {
    let start: String = text.chars().take(MIME_WITHIN).collect::<String>().to_lowercase();
    let start = start.trim_start();
    if text.trim().is_empty() || start.contains("mime-version:") {
        return None;
    }
    if start.starts_with(JINJA) {
        let (_, rest) = text.trim_start().split_once('\n').unwrap_or_default();
        return match rest.trim_start().to_lowercase().starts_with(JINJA) || rest.trim().is_empty() {
            true => Some("has nothing behind its line \"## template: jinja\"".to_owned()),
            false => wrong_cloud_data(rest),
        };
    }
    if HEADERS.iter().any(|header| start.starts_with(header)) {
        return None;
    }
    let first: String = text.trim_start().lines().next().unwrap_or_default().to_owned();
    let words = format!(
        "begins with {:?}, by which cloud-init does not know what it is, and would leave it aside: write {} or a MIME message first",
        shortened(&first),
        HEADERS.map(|header| format!("\"{header}\"")).join(", ")
    );
    Some(words)
}

fn wrong_ignition(text: &str) -> Option<String> {
    if !text.trim_start().starts_with('{') && text.lines().any(|line| line.starts_with("variant:")) {
        return Some(
            "is Butane's YAML, which Ignition does not read: translate it with butane first".to_owned(),
        );
    }
    let version = object(text).ok().and_then(|config| {
        let version = config.get("ignition")?.get("version")?.as_str()?;
        let (major, rest) = version.split_once('.')?;
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let is_known = matches!(major, "2" | "3") && rest.split('.').all(is_number);
        Some((version.to_owned(), is_known))
    });
    match version {
        None => Some("is no configuration of Ignition: a JSON object with ignition.version is".to_owned()),
        Some((version, false)) => Some(format!(
            "has ignition.version {:?}, and versions of Ignition begin with 2 or 3",
            shortened(&version)
        )),
        Some((_, true)) => None,
    }
}

fn wrong_meta_data(datasource: Datasource, text: &str) -> Option<String> {
    let is_json = text.trim_start().starts_with('{');
    match datasource {
        Datasource::ConfigDrive => object(text).err().map(|why| {
            format!("of a config drive is a JSON object, as meta_data.json is, and this is none: {why}")
        }),
        Datasource::NoCloud if is_json => object(text)
            .err()
            .map(|why| format!("begins as a JSON object, and is none: {why}")),
        Datasource::NoCloud => {
            let mut lines = text.lines().map(str::trim);
            let is_map = |line: &str| line.is_empty() || line.starts_with(['#', '%']) || line == "---";
            let first = lines.find(|line| !is_map(line));
            let is_wrong = first.is_some_and(|line| !line.contains(':') || line.starts_with('-'));
            is_wrong.then(|| "is no map of YAML: write lines such as \"local-hostname: node1\"".to_owned())
        }
        Datasource::Ignition => None,
    }
}

fn wrong_vendor_data(datasource: Datasource, text: &str) -> Option<String> {
    match datasource {
        Datasource::ConfigDrive if text.trim_start().starts_with('{') => object(text)
            .err()
            .map(|why| format!("begins as a JSON object, and is none: {why}")),
        _ => wrong_cloud_data(text),
    }
}

fn wrong_network(datasource: Datasource, text: &str) -> Option<String> {
    match datasource {
        Datasource::ConfigDrive => match object(text) {
            Err(why) => Some(format!(
                "of a config drive is a JSON object, as network_data.json is, and this is none: {why}"
            )),
            Ok(data) if !data.contains_key("networks") => Some(
                "has no \"networks\", and so is none of a config drive, which has links, networks and services"
                    .to_owned(),
            ),
            Ok(_) => None,
        },
        Datasource::NoCloud => {
            let has = |line: &str| {
                let line = line.trim_start_matches([' ', '{', ',', '\t']);
                let line = line.trim_start_matches(['"', '\'']);
                line.strip_prefix("version")
                    .is_some_and(|rest| rest.trim_start_matches(['"', '\'', ' ']).starts_with(':'))
            };
            let pieces = text.lines().flat_map(|line| line.split([',', '{']));
            let is_there = pieces.into_iter().any(has);
            (!is_there).then(|| "has no \"version\": write \"version: 1\" or \"version: 2\" first".to_owned())
        }
        Datasource::Ignition => None,
    }
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("it is another value of JSON".to_owned()),
        Err(why) => Err(why.to_string()),
    }
}

/// With the instance id, unless it has one: cloud-init takes no seed without.
fn no_cloud_meta_data(text: Option<&str>, id: &str) -> String {
    let id = Value::from(id);
    let Some(text) = text else {
        return format!("instance-id: {id}\n");
    };
    if text.trim_start().starts_with('{') {
        let mut data = object(text).unwrap_or_default();
        data.entry("instance-id").or_insert(id);
        return written(&data);
    }
    let has_id = |line: &str| {
        let line = line.trim_start_matches(['"', '\'']);
        line.strip_prefix("instance-id")
            .is_some_and(|rest| rest.trim_start_matches(['"', '\'', ' ']).starts_with(':'))
    };
    if text.lines().any(has_id) {
        return text.to_owned();
    }
    // A document may begin with its marker: what stands before that is another one.
    let (before, rest) = match text.split_once("---\n") {
        Some((before, rest)) if before.lines().all(|line| line.starts_with(['#', '%'])) => {
            (format!("{before}---\n"), rest)
        }
        _ => (String::new(), text),
    };
    format!("{before}instance-id: {id}\n{rest}")
}

fn drive_meta_data(text: Option<&str>, id: &str) -> String {
    let mut data = text.and_then(|text| object(text).ok()).unwrap_or_default();
    data.entry("uuid").or_insert_with(|| Value::from(id));
    written(&data)
}

/// What is no JSON is cloud-init's. Source: cloud-init's documentation, "Config drive", `vendor_data.json`.
fn drive_vendor_data(text: &str) -> String {
    if text.trim_start().starts_with('{') {
        return text.to_owned();
    }
    let data = Map::from_iter([("cloud-init".to_owned(), Value::from(text))]);
    written(&data)
}

fn written(data: &Map<String, Value>) -> String {
    let mut text = Value::Object(data.clone()).to_string();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOUD: &str = "#cloud-config\nhostname: node1\n";
    const IGNITION: &str = r#"{"ignition": {"version": "3.4.0"}}"#;

    fn no_cloud<'a>() -> SeedFields<'a> {
        SeedFields {
            user_data: Some(CLOUD),
            ..SeedFields::default()
        }
    }

    fn of<'a>(datasource: &'a str, user_data: &'a str) -> SeedFields<'a> {
        SeedFields {
            datasource: Some(datasource),
            user_data: Some(user_data),
            ..SeedFields::default()
        }
    }

    #[track_caller]
    fn refused(fields: &SeedFields<'_>, want: &[(&str, &str)]) {
        let problems = Seed::parse(fields).expect_err("refused");
        assert_eq!(problems.len(), want.len(), "{problems:?}");
        for (problem, (variable, words)) in problems.iter().zip(want) {
            assert_eq!(problem.variable, *variable, "{problems:?}");
            assert!(problem.message.contains(words), "{words}: {problems:?}");
        }
    }

    #[test]
    fn user_data_says_what_it_is_or_is_refused() {
        for good in [
            CLOUD,
            "#!/bin/sh\ntrue\n",
            "\n  #Cloud-Config\na: b\n",
            "#include\nhttp://h/x\n",
            "Content-Type: multipart/mixed; boundary=x\nMIME-Version: 1.0\n\n--x--\n",
            "## template: jinja\n#cloud-config\nhostname: {{ v1.region }}\n",
            "",
        ] {
            for datasource in ["nocloud", "configdrive"] {
                Seed::parse(&of(datasource, good)).expect(good);
            }
        }
        for bad in [
            "hostname: node1\n",
            "cloud-config\n",
            "# cloud-config\n",
            "## template: jinja\nhostname: a\n",
            IGNITION,
        ] {
            refused(
                &of("nocloud", bad),
                &[("USER_DATA", "cloud-init does not know what it is")],
            );
        }
        refused(
            &of("nocloud", "## template: jinja\n"),
            &[("USER_DATA", "nothing behind its line")],
        );
        // A MIME header that stands further behind is not seen.
        let late = format!("{}\nMIME-Version: 1.0\n", "x".repeat(MIME_WITHIN));
        refused(&of("nocloud", &late), &[("USER_DATA", "does not know")]);
    }

    #[test]
    fn a_text_has_a_bound_of_bytes_and_no_zero() {
        let long = format!("#!{}", "x".repeat(MAX_SEED_TEXT_BYTES));
        refused(
            &of("nocloud", &long),
            &[("USER_DATA", "user_data has 262146 B, 262144 B at most")],
        );
        Seed::parse(&of("nocloud", &long[..MAX_SEED_TEXT_BYTES])).expect("of this size");
        refused(&of("nocloud", "#cloud-config\0"), &[("USER_DATA", "a zero byte")]);
    }

    #[test]
    fn ignition_reads_its_own_json_alone() {
        let read = Seed::parse(&of("ignition", IGNITION)).expect("good");
        assert_eq!(read.files("m"), [("config.ign", IGNITION.to_owned())]);
        Seed::parse(&of("configdrive", IGNITION)).expect("with the platform openstack");
        for (bad, words) in [
            (CLOUD, "a JSON object with ignition.version"),
            ("{}", "a JSON object with ignition.version"),
            (r#"{"ignition": {"version": "4.0.0"}}"#, "\"4.0.0\""),
            ("variant: fcos\nversion: 1.5.0\n", "butane first"),
        ] {
            refused(&of("ignition", bad), &[("USER_DATA", words)]);
        }
        let fields = SeedFields {
            form: Some("iso9660"),
            meta_data: Some("{}"),
            ..of("ignition", IGNITION)
        };
        refused(
            &fields,
            &[
                ("FORM", "ignition.platform.id=openstack"),
                ("META_DATA", "all is in user_data"),
            ],
        );
    }

    #[test]
    fn a_seed_of_nocloud_has_its_instance_id_once() {
        let meta_data = |text| {
            let fields = SeedFields {
                meta_data: text,
                ..no_cloud()
            };
            let files = Seed::parse(&fields).expect("good").files("the-machine");
            assert_eq!(files.first().map(|(path, _)| *path), Some("meta-data"));
            assert!(
                files
                    .iter()
                    .any(|(path, text)| *path == "user-data" && text == CLOUD)
            );
            files.into_iter().next().map(|(_, text)| text).unwrap_or_default()
        };
        assert_eq!(meta_data(None), "instance-id: \"the-machine\"\n");
        assert_eq!(
            meta_data(Some("local-hostname: a\n")),
            "instance-id: \"the-machine\"\nlocal-hostname: a\n"
        );
        assert_eq!(
            meta_data(Some("# of ours\n---\nlocal-hostname: a\n")),
            "# of ours\n---\ninstance-id: \"the-machine\"\nlocal-hostname: a\n"
        );
        for own in ["instance-id: x\n", "a: b\n\"instance-id\" : x"] {
            assert_eq!(meta_data(Some(own)), own);
        }
        assert_eq!(
            meta_data(Some(r#"{"instance-id": "x"}"#)),
            "{\"instance-id\":\"x\"}\n"
        );
        assert!(meta_data(Some("{}")).contains("the-machine"));
        let declared = SeedFields {
            instance_id: Some("of-ours"),
            user_data: None,
            ..no_cloud()
        };
        let files = Seed::parse(&declared).expect("good").files("the-machine");
        assert_eq!(
            files,
            [
                ("meta-data", "instance-id: \"of-ours\"\n".to_owned()),
                ("user-data", String::new())
            ]
        );
    }

    #[test]
    fn a_config_drive_is_json_but_for_its_user_data() {
        let fields = SeedFields {
            datasource: Some("configdrive"),
            form: Some("iso9660"),
            meta_data: Some(r#"{"hostname": "node1"}"#),
            network_config: Some(r#"{"links": [], "networks": []}"#),
            vendor_data: Some(CLOUD),
            only_empty: Some("true"),
            ..no_cloud()
        };
        let files = Seed::parse(&fields).expect("good").files("the-machine");
        let of = |name: &str| {
            let found = files.iter().find(|(path, _)| path.ends_with(name));
            found.map(|(_, text)| text.as_str()).unwrap_or_default()
        };
        let meta_data: Value = serde_json::from_str(of("meta_data.json")).expect("JSON");
        assert_eq!(
            (&meta_data["uuid"], &meta_data["hostname"]),
            (&"the-machine".into(), &"node1".into())
        );
        let vendor: Value = serde_json::from_str(of("vendor_data.json")).expect("JSON");
        assert_eq!(vendor["cloud-init"], CLOUD);
        assert_eq!((of("user_data"), files.len()), (CLOUD, 4));
        let paths: Vec<&str> = files.iter().map(|(path, _)| *path).collect();
        assert_eq!(paths, Datasource::ConfigDrive.names());
        let bad = SeedFields {
            meta_data: Some("hostname: node1"),
            network_config: Some("{}"),
            vendor_data: Some("{"),
            ..fields
        };
        refused(
            &bad,
            &[
                ("META_DATA", "is a JSON object"),
                ("NETWORK_CONFIG", "no \"networks\""),
                ("VENDOR_DATA", "begins as a JSON object"),
            ],
        );
    }

    #[test]
    fn what_nobody_looks_for_is_refused_with_every_problem() {
        refused(
            &SeedFields {
                datasource: Some("ec2"),
                form: Some("vfat"),
                ..no_cloud()
            },
            &[
                ("DATASOURCE", "it is one of configdrive, ignition, nocloud"),
                ("FORM", "it is one of files, iso9660"),
            ],
        );
        refused(
            &SeedFields {
                form: Some("iso9660"),
                dest_path: Some("/x"),
                fs_type: Some("ext4"),
                instance_id: Some("a b"),
                meta_data: Some("node1"),
                network_config: Some("ethernets: {}"),
                ..no_cloud()
            },
            &[
                ("DEST_PATH", "is of form files"),
                ("FS_TYPE", "is of form files"),
                ("INSTANCE_ID", "without spaces"),
                ("META_DATA", "no map of YAML"),
                ("NETWORK_CONFIG", "has no \"version\""),
            ],
        );
        refused(
            &SeedFields {
                only_empty: Some("true"),
                ..no_cloud()
            },
            &[("ONLY_EMPTY", "is of form iso9660")],
        );
        for good in [
            "version: 2\nethernets: {}\n",
            "network:\n  version: 1\n",
            r#"{"version": 2}"#,
            "network: {version: 2}",
        ] {
            Seed::parse(&SeedFields {
                network_config: Some(good),
                ..no_cloud()
            })
            .expect(good);
        }
    }
}
