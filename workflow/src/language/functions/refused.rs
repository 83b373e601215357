//! sprig's functions that there are none of here, and why: none is taken for another, or for a slip of the pen.

/// Why there is no function of this name, where sprig has one.
pub(in crate::language) fn why_refused(name: &str) -> Option<&'static str> {
    let (_, why) = REFUSED.iter().find(|(names, _)| names.contains(&name))?;
    Some(why)
}

pub(super) const REFUSED: [(&[&str], &str); 6] = [
    (
        &[
            "ago",
            "date",
            "date_in_zone",
            "date_modify",
            "dateInZone",
            "dateModify",
            "duration",
            "durationRound",
            "htmlDate",
            "htmlDateInZone",
            "must_date_modify",
            "mustDateModify",
            "mustToDate",
            "now",
            "toDate",
            "unixEpoch",
        ],
        "times are none of a template's values, and nothing here reads a clock: a template gives the same text every time",
    ),
    (
        &[
            "bcrypt",
            "encryptAES",
            "genCA",
            "genCAWithKey",
            "genPrivateKey",
            "genSelfSignedCert",
            "genSelfSignedCertWithKey",
            "genSignedCert",
            "genSignedCertWithKey",
            "htpasswd",
            "randAlpha",
            "randAlphaNum",
            "randAscii",
            "randBytes",
            "randInt",
            "randNumeric",
            "randSeededNumeric",
            "shuffle",
            "uuidv4",
        ],
        "nothing here is left to chance: a template gives the same text every time; give the value with -r NAME=VALUE",
    ),
    (
        &["env", "expandenv"],
        "nothing here reads the server's environment; give the value with -r NAME=VALUE",
    ),
    (
        &["getHostByName"],
        "nothing here asks the network; give the address with -r NAME=VALUE",
    ),
    (
        &["buildCustomCert", "decryptAES", "derivePassword", "sha1sum"],
        "what is secret has no place in a template; give the value with -r NAME=VALUE",
    ),
    (
        &[
            "abbrevboth",
            "camelcase",
            "hello",
            "kebabcase",
            "mustSlice",
            "semver",
            "semverCompare",
            "snakecase",
            "urlJoin",
            "urlParse",
            "wrap",
            "wrapWith",
        ],
        "it is none of those that there are; the reference of templates lists them",
    ),
];
