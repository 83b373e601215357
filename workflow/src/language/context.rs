//! What a template sees: the devices at top level, `.hardware` with JSON names, and the legacy `.Hardware` with the
//! field names of upstream's Go structs (`api/v1alpha1/hardware_types.go`).

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;
use serde_json::Value as Json;

use super::Devices;

/// The root of a rendering. Without a machine there is neither `hardware` nor `Hardware`, so that using one is an error.
pub(super) fn root(devices: &Devices) -> Value {
    let mut root: BTreeMap<Arc<str>, Value> = BTreeMap::new();
    if !devices.hardware.is_null() {
        root.insert(
            "hardware".into(),
            gotmpl::to_value(&devices.hardware).unwrap_or(Value::Nil),
        );
        root.insert("Hardware".into(), legacy(&devices.hardware));
    }
    // A device may have any name, as upstream.
    for (name, value) in &devices.devices {
        root.insert(name.as_str().into(), Value::String(value.as_str().into()));
    }
    Value::Map(Arc::new(root))
}

fn legacy(hardware: &Json) -> Value {
    let spec = &hardware["spec"];
    let disks = spec["disks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let devices = disks.iter().map(|disk| Kind::Text.value(&disk["device"]));
    Value::from_entries([
        ("Disks".into(), Value::List(devices.collect())),
        (
            "Interfaces".into(),
            Kind::Structs(INTERFACE).value(&spec["interfaces"]),
        ),
        ("UserData".into(), Kind::Text.value(&spec["userData"])),
        ("Metadata".into(), structure(METADATA, &spec["metadata"])),
        ("VendorData".into(), Kind::Text.value(&spec["vendorData"])),
    ])
}

/// A Go field: its name, its name in JSON, its type.
type Field = (&'static str, &'static str, Kind);

/// The type of a Go field. What JSON leaves out has Go's zero value.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
    Flag,
    /// `*bool`
    MaybeFlag,
    Texts,
    /// A pointer to a struct.
    Struct(&'static [Field]),
    Structs(&'static [Field]),
}

impl Kind {
    fn value(self, json: &Json) -> Value {
        match self {
            Kind::Text => Value::String(json.as_str().unwrap_or("").into()),
            Kind::Number => Value::Int(json.as_i64().unwrap_or(0)),
            Kind::Flag => Value::Bool(json.as_bool().unwrap_or(false)),
            Kind::MaybeFlag => json.as_bool().map_or(Value::Nil, Value::Bool),
            Kind::Texts => list(json, |item| Kind::Text.value(item)),
            Kind::Struct(_) if !json.is_object() => Value::Nil,
            Kind::Struct(fields) => structure(fields, json),
            Kind::Structs(fields) => list(json, |item| structure(fields, item)),
        }
    }
}

fn list(json: &Json, item: impl Fn(&Json) -> Value) -> Value {
    Value::List(
        json.as_array()
            .map(Vec::as_slice)
            .unwrap_or_default()
            .iter()
            .map(item)
            .collect(),
    )
}

fn structure(fields: &[Field], json: &Json) -> Value {
    let values = fields
        .iter()
        .map(|&(name, key, kind)| (name.into(), kind.value(&json[key])));
    Value::Map(Arc::new(values.collect()))
}

const INTERFACE: &[Field] = &[
    ("Netboot", "netboot", Kind::Struct(NETBOOT)),
    ("DHCP", "dhcp", Kind::Struct(DHCP)),
    ("DisableDHCP", "disableDhcp", Kind::Flag),
];

const NETBOOT: &[Field] = &[
    ("AllowPXE", "allowPXE", Kind::MaybeFlag),
    ("AllowWorkflow", "allowWorkflow", Kind::MaybeFlag),
    (
        "IPXE",
        "ipxe",
        Kind::Struct(&[
            ("URL", "url", Kind::Text),
            ("Contents", "contents", Kind::Text),
            ("Binary", "binary", Kind::Text),
        ]),
    ),
    (
        "OSIE",
        "osie",
        Kind::Struct(&[
            ("BaseURL", "baseURL", Kind::Text),
            ("Kernel", "kernel", Kind::Text),
            ("Initrd", "initrd", Kind::Text),
        ]),
    ),
];

const DHCP: &[Field] = &[
    ("MAC", "mac", Kind::Text),
    ("Hostname", "hostname", Kind::Text),
    ("LeaseTime", "lease_time", Kind::Number),
    ("NameServers", "name_servers", Kind::Texts),
    ("TimeServers", "time_servers", Kind::Texts),
    ("Arch", "arch", Kind::Text),
    ("UEFI", "uefi", Kind::Flag),
    ("IfaceName", "iface_name", Kind::Text),
    (
        "IP",
        "ip",
        Kind::Struct(&[
            ("Address", "address", Kind::Text),
            ("Netmask", "netmask", Kind::Text),
            ("Gateway", "gateway", Kind::Text),
            ("Family", "family", Kind::Number),
        ]),
    ),
    ("VLANID", "vlan_id", Kind::Text),
    ("TFTPServerName", "tftp_server_name", Kind::Text),
    ("BootFileName", "boot_file_name", Kind::Text),
    (
        "ClasslessStaticRoutes",
        "classless_static_routes",
        Kind::Structs(&[
            ("DestinationDescriptor", "destination_descriptor", Kind::Text),
            ("Router", "router", Kind::Text),
        ]),
    ),
];

const METADATA: &[Field] = &[
    ("State", "state", Kind::Text),
    ("BondingMode", "bonding_mode", Kind::Number),
    (
        "Manufacturer",
        "manufacturer",
        Kind::Struct(&[("ID", "id", Kind::Text), ("Slug", "slug", Kind::Text)]),
    ),
    ("Instance", "instance", Kind::Struct(INSTANCE)),
    (
        "Custom",
        "custom",
        Kind::Struct(&[
            (
                "PreinstalledOperatingSystemVersion",
                "preinstalled_operating_system_version",
                Kind::Struct(OPERATING_SYSTEM),
            ),
            ("PrivateSubnets", "private_subnets", Kind::Texts),
        ]),
    ),
    (
        "Facility",
        "facility",
        Kind::Struct(&[
            ("PlanSlug", "plan_slug", Kind::Text),
            ("PlanVersionSlug", "plan_version_slug", Kind::Text),
            ("FacilityCode", "facility_code", Kind::Text),
        ]),
    ),
];

const INSTANCE: &[Field] = &[
    ("ID", "id", Kind::Text),
    ("State", "state", Kind::Text),
    ("Hostname", "hostname", Kind::Text),
    ("AllowPxe", "allow_pxe", Kind::Flag),
    ("Rescue", "rescue", Kind::Flag),
    (
        "OperatingSystem",
        "operating_system",
        Kind::Struct(OPERATING_SYSTEM),
    ),
    ("AlwaysPxe", "always_pxe", Kind::Flag),
    ("IpxeScriptURL", "ipxe_script_url", Kind::Text),
    (
        "Ips",
        "ips",
        Kind::Structs(&[
            ("Address", "address", Kind::Text),
            ("Netmask", "netmask", Kind::Text),
            ("Gateway", "gateway", Kind::Text),
            ("Family", "family", Kind::Number),
            ("Public", "public", Kind::Flag),
            ("Management", "management", Kind::Flag),
        ]),
    ),
    ("Userdata", "userdata", Kind::Text),
    ("CryptedRootPassword", "crypted_root_password", Kind::Text),
    ("Tags", "tags", Kind::Texts),
    ("Storage", "storage", Kind::Struct(STORAGE)),
    ("SSHKeys", "ssh_keys", Kind::Texts),
    ("NetworkReady", "network_ready", Kind::Flag),
];

const OPERATING_SYSTEM: &[Field] = &[
    ("Slug", "slug", Kind::Text),
    ("Distro", "distro", Kind::Text),
    ("Version", "version", Kind::Text),
    ("ImageTag", "image_tag", Kind::Text),
    ("OsSlug", "os_slug", Kind::Text),
];

const STORAGE: &[Field] = &[
    (
        "Disks",
        "disks",
        Kind::Structs(&[
            ("Device", "device", Kind::Text),
            ("WipeTable", "wipe_table", Kind::Flag),
            (
                "Partitions",
                "partitions",
                Kind::Structs(&[
                    ("Label", "label", Kind::Text),
                    ("Number", "number", Kind::Number),
                    ("Size", "size", Kind::Number),
                    ("Start", "start", Kind::Number),
                    ("TypeGUID", "type_guid", Kind::Text),
                ]),
            ),
        ]),
    ),
    (
        "Raid",
        "raid",
        Kind::Structs(&[
            ("Name", "name", Kind::Text),
            ("Level", "level", Kind::Text),
            ("Devices", "devices", Kind::Texts),
            ("Spare", "spare", Kind::Number),
        ]),
    ),
    (
        "Filesystems",
        "filesystems",
        Kind::Structs(&[("Mount", "mount", Kind::Struct(MOUNT))]),
    ),
];

const MOUNT: &[Field] = &[
    ("Device", "device", Kind::Text),
    ("Format", "format", Kind::Text),
    (
        "Files",
        "files",
        Kind::Structs(&[
            ("Path", "path", Kind::Text),
            ("Contents", "contents", Kind::Text),
            ("Mode", "mode", Kind::Number),
            ("UID", "uid", Kind::Number),
            ("GID", "gid", Kind::Number),
        ]),
    ),
    (
        "Create",
        "create",
        Kind::Struct(&[
            ("Force", "force", Kind::Flag),
            ("Options", "options", Kind::Texts),
        ]),
    ),
    ("Point", "point", Kind::Text),
];
