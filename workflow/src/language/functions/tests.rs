//! Each function by what a template prints with it. The expected texts are those of sprig's documentation, or of
//! running Go's template with sprig where that has no example.

use std::collections::BTreeSet;

use super::super::Devices;
use super::*;

fn run(template: &str) -> Result<String, String> {
    let value = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let devices = Devices {
        devices: [value("device", "/dev/sda"), value("empty", "")].into(),
        hardware: serde_json::json!({"metadata": {"name": "node1"}}),
    };
    let message = |problems: Vec<super::super::Problem>| problems[0].finding.message.clone();
    let parsed = super::super::render::Template::parse(template).map_err(message)?;
    parsed.render(&devices).map_err(|failed| message(failed.problems))
}

#[track_caller]
fn check(cases: &[(&str, &str)]) {
    for (expression, want) in cases {
        match run(&format!("{{{{ {expression} }}}}")) {
            Ok(text) => assert_eq!(&text, want, "{expression}"),
            Err(error) => panic!("{expression}: {error}"),
        }
    }
}

#[test]
fn every_name_is_there_once() {
    let names: Vec<&str> = tables().into_iter().flatten().map(|&(name, _)| name).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    assert!(names.len() >= 90, "{} functions", names.len());
}

#[test]
fn words() {
    check(&[
        (r#"trim "   hello    ""#, "hello"),
        (r#"trimAll "$" "$5.00""#, "5.00"),
        (r#"trimall "$" "$5.00$""#, "5.00"),
        (r#"trimSuffix "-" "hello-""#, "hello"),
        (r#"trimPrefix "-" "-hello""#, "hello"),
        (r#"upper "hello""#, "HELLO"),
        (r#""HELLO" | lower"#, "hello"),
        (r#"title "hello world-wide""#, "Hello World-Wide"),
        (r#"untitle "Hello World""#, "hello world"),
        (r#"nospace "hello w o r l d""#, "helloworld"),
        (r#""I Am Henry VIII" | replace " " "-""#, "I-Am-Henry-VIII"),
        (r#"contains "cat" "catch""#, "true"),
        (r#"hasPrefix "cat" "catch""#, "true"),
        (r#"hasSuffix "cat" "catch""#, "false"),
        (r#"quote "a" "b\"c""#, r#""a" "b\"c""#),
        (r#"squote "a" 1"#, "'a' '1'"),
        (r#"cat "hello" "beautiful" "world" 3"#, "hello beautiful world 3"),
        (r#"indent 4 "a\nb""#, "    a\n    b"),
        (r#"nindent 2 "a\nb""#, "\n  a\n  b"),
        (r#"substr 0 5 "hello world""#, "hello"),
        (r#"substr 6 -1 "hello world""#, "world"),
        (r#"substr 9 3 "hello""#, ""),
        (r#"trunc 5 "hello world""#, "hello"),
        (r#"trunc -5 "hello world""#, "world"),
        (r#"trunc 2 "äöü""#, "äö"),
        (r#"repeat 3 "hello""#, "hellohellohello"),
        (r#"(split "$" "foo$bar$baz")._1"#, "bar"),
        (r#"splitList "$" "foo$bar$baz""#, "[foo bar baz]"),
        (r#"splitList "" "abc""#, "[a b c]"),
        (r#"list "hello" "world" | join "_""#, "hello_world"),
        (r#"join "+" (list 1 2 3)"#, "1+2+3"),
        (r#"regexMatch "^/dev/nvme[0-9]+n[0-9]+$" "/dev/nvme0n1""#, "true"),
        (r#"regexFind "[a-zA-Z][1-9]" "abcd1234""#, "d1"),
        (r#"regexReplaceAll "a(x*)b" "-ab-axxb-" "${1}W""#, "-W-xxW-"),
        (r#"plural "one anchovy" "many anchovies" 1"#, "one anchovy"),
        (r#"plural "one anchovy" "many anchovies" 0"#, "many anchovies"),
        (r#"toString 5 | quote"#, "\"5\""),
        (r#"toStrings (list 1 true) | join ",""#, "1,true"),
    ]);
}

#[test]
fn flow() {
    check(&[
        (r#"default "foo" .empty"#, "foo"),
        (r#".device | default "foo""#, "/dev/sda"),
        (r#"default "foo""#, "foo"),
        ("empty 0", "true"),
        ("empty (list 0)", "false"),
        ("coalesce 0 1 2", "1"),
        (r#"ternary "foo" "bar" true"#, "foo"),
        (r#"false | ternary "foo" "bar""#, "bar"),
        (r#"all 0 1 """#, "false"),
        (r#"any 0 1 """#, "true"),
        ("kindOf (list)", "slice"),
        (r#"kindIs "int" 123"#, "true"),
        ("deepEqual (list 1 2 3) (list 1 2 3)", "true"),
    ]);
}

#[test]
fn lists() {
    check(&[
        ("first (list 1 2 3)", "1"),
        ("last (list 1 2 3)", "3"),
        ("rest (list 1 2 3)", "[2 3]"),
        ("initial (list 1 2 3)", "[1 2]"),
        ("initial (list)", "[]"),
        ("append (list 1 2) 3", "[1 2 3]"),
        ("push (tuple 1 2) 3", "[1 2 3]"),
        ("prepend (list 1 2) 0", "[0 1 2]"),
        ("concat (list 1) (list 2 3) (list)", "[1 2 3]"),
        ("list 1 1 1 2 | uniq", "[1 2]"),
        ("without (list 1 2 3 4 5) 1 3 5", "[2 4]"),
        (r#"compact (list 1 0 "" "x")"#, "[1 x]"),
        ("has 4 (list 1 4)", "true"),
        ("reverse (list 1 2 3)", "[3 2 1]"),
        (r#"sortAlpha (list "b" "a" 10 9)"#, "[10 9 a b]"),
        ("slice (list 1 2 3 4 5) 1 3", "[2 3]"),
        ("until 5", "[0 1 2 3 4]"),
        ("until -3", "[0 -1 -2]"),
        ("untilStep 3 6 2", "[3 5]"),
        ("untilStep 0 5 0", "[]"),
        ("seq 5", "1 2 3 4 5"),
        ("seq -3", "1 0 -1 -2 -3"),
        ("seq 0 2", "0 1 2"),
        ("seq 2 -2", "2 1 0 -1 -2"),
        ("seq 0 2 10", "0 2 4 6 8 10"),
        ("seq 0 -2 -5", "0 -2 -4"),
    ]);
}

#[test]
fn maps() {
    check(&[
        (r#"(dict "a" 1 "b").a"#, "1"),
        (r#"get (dict "key1" "value1") "key1""#, "value1"),
        (r#"get (dict) "nope" | quote"#, "\"\""),
        (r#"set (dict "a" 1) "b" 2"#, "map[a:1 b:2]"),
        (r#"unset (dict "a" 1 "b" 2) "b""#, "map[a:1]"),
        (r#"hasKey (dict "a" 1) "a""#, "true"),
        (r#"keys (dict "b" 1 "a" 2) (dict "c" 3)"#, "[a b c]"),
        (r#"values (dict "b" 1 "a" 2)"#, "[2 1]"),
        (r#"pluck "a" (dict "a" 1) (dict "b" 2) (dict "a" 3)"#, "[1 3]"),
        (r#"pick (dict "a" 1 "b" 2) "a""#, "map[a:1]"),
        (r#"omit (dict "a" 1 "b" 2) "a""#, "map[b:2]"),
        (
            r#"merge (dict "a" 1 "d" (dict "x" 1)) (dict "a" 2 "b" 3 "d" (dict "y" 2))"#,
            "map[a:1 b:3 d:map[x:1 y:2]]",
        ),
        (r#"mergeOverwrite (dict "a" 1) (dict "a" 2)"#, "map[a:2]"),
        (r#"dig "a" "b" "none" (dict "a" (dict "b" 7))"#, "7"),
        (r#"dig "a" "c" "none" (dict "a" (dict "b" 7))"#, "none"),
    ]);
}

#[test]
fn dicts_are_changed_in_place() {
    let d = r#"{{ $d := dict "a" 1 "n" (dict "x" 1) }}"#;
    for (template, want) in [
        // sprig's manual.
        (
            r#"{{ $_ := set $d "b" 2 }}{{ $d.b }}{{ $d }}"#,
            "2map[a:1 b:2 n:map[x:1]]",
        ),
        (r#"{{ $_ := unset $d "n" }}{{ $d }}"#, "map[a:1]"),
        (r#"{{ $_ := unset $d "nope" }}{{ len $d }}"#, "2"),
        (
            r#"{{ $new := merge $d (dict "a" 2 "b" 3 "n" (dict "x" 2 "y" 2)) }}{{ $d }}{{ deepEqual $new $d }}"#,
            "map[a:1 b:3 n:map[x:1 y:2]]true",
        ),
        (
            r#"{{ $new := mergeOverwrite $d (dict "a" 2 "b" false "n" (dict "x" 2 "y" 2)) }}{{ $d }}"#,
            "map[a:2 b:false n:map[x:2 y:2]]",
        ),
        (
            r#"{{ $_ := mustMerge $d (dict "b" 3) (dict "b" 4 "c" 5) }}{{ $d.b }}{{ $d.c }}"#,
            "35",
        ),
        // "Nested objects that are merged are the same instance on both dicts."
        (
            r#"{{ $e := dict }}{{ $_ := merge $e $d }}{{ $_ := set $e.n "y" 2 }}{{ $d.n.y }}"#,
            "2",
        ),
        (
            r#"{{ $e := deepCopy $d }}{{ $_ := set $e.n "y" 2 }}{{ $d.n }}{{ $e.n }}"#,
            "map[x:1]map[x:1 y:2]",
        ),
        // Whoever holds the same dict sees it.
        (r#"{{ $e := $d }}{{ $_ := set $e "b" 2 }}{{ $d.b }}"#, "2"),
        (r#"{{ $_ := set $d.n "y" 2 }}{{ $d.n.y }}"#, "2"),
        (r#"{{ $_ := set (get $d "n") "y" 2 }}{{ $d.n.y }}"#, "2"),
        (
            r#"{{ $_ := set (index $d "n") "y" 2 }}{{ index $d "n" "y" }}"#,
            "2",
        ),
        (
            r#"{{ $_ := set (dig "n" "" $d) "y" 2 }}{{ (get $d "n").y }}"#,
            "2",
        ),
        (
            r#"{{ $_ := set ($d.n | default (dict)) "y" 2 }}{{ $d.n.y }}"#,
            "2",
        ),
        (
            r#"{{ $l := list $d (dict) }}{{ range $l }}{{ $_ := set . "seen" 1 }}{{ end }}{{ $d.seen }}{{ last $l }}"#,
            "1map[seen:1]",
        ),
        (
            r#"{{ with $d.n }}{{ $_ := set . "y" 2 }}{{ .y }}{{ end }}{{ $d.n.y }}"#,
            "22",
        ),
        (
            r#"{{ define "t" }}{{ $_ := set . "y" 2 }}{{ end }}{{ template "t" $d }}{{ $d.y }}"#,
            "2",
        ),
        (
            r#"{{ $_ := set .hardware.metadata "name" "other" }}{{ .hardware.metadata.name }}"#,
            "other",
        ),
        (
            r#"{{ $j := fromJson "{\"a\": {\"b\": 1}}" }}{{ $_ := set $j.a "b" 2 }}{{ toJson $j }}"#,
            r#"{"a":{"b":2}}"#,
        ),
        (
            r#"{{ $u := uniq (list $d $d.n (deepCopy $d)) }}{{ $_ := set (first $u) "b" 2 }}{{ len $u }}{{ $d.b }}"#,
            "22",
        ),
        // What looks into one looks into what it is now.
        (
            r#"{{ $e := dict }}{{ if $e }}full{{ else }}empty{{ end }}{{ $_ := set $e "a" 1 }}{{ if $e }}full{{ end }}"#,
            "emptyfull",
        ),
        (
            r#"{{ $e := dict }}{{ with $e }}full{{ else }}empty{{ end }}{{ not $e }}{{ empty $e }}{{ $_ := unset $e "a" }}"#,
            "emptytruetrue",
        ),
        (
            r#"{{ $e := dict }}{{ or $e "none" }}{{ and $d.n "some" }}{{ $_ := set $d "a" 1 }}"#,
            "nonesome",
        ),
        (
            r#"{{ $_ := set $d "b" 2 }}{{ range $k, $v := $d }}{{ $k }}={{ $v }};{{ end }}"#,
            "a=1;b=2;n=map[x:1];",
        ),
        (
            r#"{{ $_ := set $d "b" 2 }}{{ keys $d }}{{ hasKey $d "b" }}{{ values $d }}{{ pick $d "b" }}"#,
            "[a b n]true[1 2 map[x:1]]map[b:2]",
        ),
        (
            r#"{{ $_ := set $d "b" "t" }}{{ toYaml $d }}"#,
            "a: 1\nb: t\n\"n\":\n  x: 1",
        ),
        (
            r#"{{ $_ := set $d "b" 2 }}{{ eq $d.b 2 }}{{ lt $d.a $d.b }}{{ $d.b | printf "%d-%v" $d.a }}{{ print $d.n }}"#,
            "truetrue1-2map[x:1]",
        ),
        (
            r#"{{ $_ := set $d "s" "a,b" }}{{ (split "," $d.s)._1 }}{{ $d.s | upper | quote }}"#,
            "b\"A,B\"",
        ),
        (
            r#"{{ $_ := set $d "l" (list 1 2 3) }}{{ slice $d.l 1 }}{{ len $d.l }}{{ index $d.l 0 }}{{ join "-" $d.l }}"#,
            "[2 3]311-2-3",
        ),
    ] {
        match run(&format!("{d}{template}")) {
            Ok(text) => assert_eq!(text, want, "{template}"),
            Err(error) => panic!("{template}: {error}"),
        }
    }
}

#[test]
fn what_cannot_be_done_with_a_dict_is_refused() {
    for (template, want) in [
        (
            r#"{{ $d := dict }}{{ $_ := set $d "self" $d }}{{ $d }}"#,
            "a dict is too large, too deep, or in itself",
        ),
        (r#"{{ $_ := set "x" "a" 1 }}"#, r#"set: wants a dict, got "x""#),
        (
            r#"{{ $_ := set (or (dict) (dict)) "a" 1 }}"#,
            "set: this empty dict cannot be changed here: put it into a variable first, {{ $d := dict }}",
        ),
        (
            r#"{{ $d := dict }}{{ $_ := set $d "a" 1 }}{{ $d.b }}"#,
            "there is no value for .b",
        ),
        (
            r#"{{ $d := dict }}{{ $_ := set $d "a" 1 }}{{ $d.a.b }}"#,
            "can't evaluate field b in type int",
        ),
        (
            r#"{{ $d := dict }}{{ $_ := set $d "a" 1 }}{{ .devcie }}"#,
            "there is no value for .devcie; there are .Hardware, .device, .empty, .hardware",
        ),
    ] {
        let error = run(template).unwrap_err();
        assert!(error.starts_with(want), "{template}: {error}");
    }
}

/// The names in sprig's `functions.go` (v3).
const SPRIG: &str = "hello ago date date_in_zone date_modify dateInZone dateModify duration durationRound htmlDate htmlDateInZone \
    must_date_modify mustDateModify mustToDate now toDate unixEpoch abbrev abbrevboth trunc trim upper lower title untitle substr \
    repeat trimall trimAll trimSuffix trimPrefix nospace initials randAlphaNum randAlpha randAscii randNumeric swapcase shuffle \
    snakecase camelcase kebabcase wrap wrapWith contains hasPrefix hasSuffix quote squote cat indent nindent replace plural sha1sum \
    sha256sum sha512sum adler32sum toString atoi int64 int float64 seq toDecimal split splitList splitn toStrings until untilStep add1 add sub \
    div mod mul randInt add1f addf subf divf mulf biggest max min maxf minf ceil floor round join sortAlpha default empty coalesce \
    all any compact mustCompact fromJson toJson toPrettyJson toRawJson mustFromJson mustToJson mustToPrettyJson mustToRawJson \
    ternary deepCopy mustDeepCopy typeOf typeIs typeIsLike kindOf kindIs deepEqual env expandenv getHostByName base dir clean ext \
    isAbs osBase osClean osDir osExt osIsAbs b64enc b64dec b32enc b32dec tuple list dict get set unset hasKey pluck keys pick omit \
    merge mergeOverwrite mustMerge mustMergeOverwrite values append push mustAppend mustPush prepend mustPrepend first mustFirst \
    rest mustRest last mustLast initial mustInitial reverse mustReverse uniq mustUniq without mustWithout has mustHas slice \
    mustSlice concat dig chunk mustChunk bcrypt htpasswd genPrivateKey derivePassword buildCustomCert genCA genCAWithKey \
    genSelfSignedCert genSelfSignedCertWithKey genSignedCert genSignedCertWithKey encryptAES decryptAES randBytes uuidv4 semver \
    semverCompare fail regexMatch mustRegexMatch regexFindAll mustRegexFindAll regexFind mustRegexFind regexReplaceAll \
    mustRegexReplaceAll regexReplaceAllLiteral mustRegexReplaceAllLiteral regexSplit mustRegexSplit regexQuoteMeta urlParse urlJoin";

#[test]
fn each_function_of_sprig_is_there_or_refused_by_name() {
    let there: BTreeSet<&str> = names().collect();
    let listed: BTreeSet<&str> = SPRIG.split_whitespace().collect();
    for name in &listed {
        assert_eq!(there.contains(name), why_refused(name).is_none(), "{name}");
    }
    let refused = refused::REFUSED.iter().flat_map(|(names, _)| names.iter());
    for name in refused {
        let error = run(&format!("{{{{ {name} }}}}")).unwrap_err();
        assert!(
            error.starts_with(&format!("there is no function {name}: ")),
            "{error}"
        );
    }
    for name in HANDING_ON {
        assert!(there.contains(name), "{name}");
    }
}

/// Values of sprig's manual.
#[test]
fn the_rest_of_sprig_s_manual() {
    check(&[
        (r#"abbrev 5 "hello world""#, "he..."),
        (r#"abbrev 3 "hello""#, "hello"),
        (r#"initials "First Try""#, "FT"),
        (r#"swapcase "This Is A.Test""#, "tHIS iS a.tEST"),
        (r#"regexFindAll "[2,4,6,8]" "123456789" -1"#, "[2 4 6 8]"),
        (r#"regexFindAll "[2,4,6,8]" "123456789" 2"#, "[2 4]"),
        (
            r#"regexReplaceAllLiteral "a(x*)b" "-ab-axxb-" "${1}""#,
            "-${1}-${1}-",
        ),
        (r#"regexSplit "z+" "pizza" -1"#, "[pi a]"),
        (r#"regexSplit "z+" "pizza" 0"#, "[]"),
        (r#"regexQuoteMeta "1.2.3""#, r"1\.2\.3"),
        (r#"(splitn "$" 2 "foo$bar$baz")._1"#, "bar$baz"),
        // RFC 1950's checksum of Wikipedia's example.
        (r#"adler32sum "Wikipedia""#, "300286872"),
        ("chunk 3 (list 1 2 3 4 5 6 7 8)", "[[1 2 3] [4 5 6] [7 8]]"),
        ("addf 1.5 2 2", "5.5"),
        ("subf 7.5 2 3", "2.5"),
        ("divf 10 2 4", "1.25"),
        ("mulf 1.5 2 2", "6"),
        ("maxf 1 2.5 3", "3"),
        ("minf 1.5 2 3", "1.5"),
        ("add1f 1.5", "2.5"),
        (r#"base "foo/bar/baz""#, "baz"),
        (r#"base "/""#, "/"),
        (r#"dir "foo/bar/baz""#, "foo/bar"),
        (r#"dir "foo""#, "."),
        (r#"clean "foo/bar/../baz""#, "foo/baz"),
        (r#"clean "/../a//b/.""#, "/a/b"),
        (r#"ext "foo.bar""#, ".bar"),
        (r#"isAbs "/a""#, "true"),
        (r#"typeOf (list)"#, "[]interface {}"),
        (r#"typeIs "string" "a""#, "true"),
        (r#"typeIsLike "*int" 1"#, "true"),
        (r#"first (mustUniq (mustReverse (mustAppend (list 1 2) 2)))"#, "2"),
        // Go's %q, which is YAML as well.
        ("quote \"a\\x1b\u{200b}é\\n'\\\"\"", "\"a\\x1b\\u200bé\\n'\\\"\""),
    ]);
}

#[test]
fn numbers() {
    check(&[
        ("add 1 2 3", "6"),
        ("add1 41", "42"),
        ("sub 5 2", "3"),
        ("mul 1 2 3", "6"),
        ("div 7 2", "3"),
        ("mod 7 3", "1"),
        ("max 1 2 3", "3"),
        ("min 1 2 3", "1"),
        ("biggest 1 2", "2"),
        ("ceil 123.001", "124"),
        ("floor 123.9999", "123"),
        ("round 123.555555 3", "123.556"),
        (r#"atoi "42""#, "42"),
        (r#"atoi "4x""#, "0"),
        (r#"int "7""#, "7"),
        ("int64 7.9", "7"),
        (r#"float64 "1.5""#, "1.5"),
        (r#"toDecimal "0777""#, "511"),
        (r#"add "1" 2"#, "3"),
    ]);
}

#[test]
fn encodings() {
    check(&[
        (r#"b64enc "hello""#, "aGVsbG8="),
        (r#"b64dec "aGVsbG8=""#, "hello"),
        (r#"b32enc "hello""#, "NBSWY3DP"),
        (r#"b32dec "NBSWY3DP""#, "hello"),
        (
            r#"sha256sum "Hello world!""#,
            "c0535e4be2b79ffd93291305436bf889314e4a3faec05ecffcbb7df31ad9e51a",
        ),
        (
            r#"toJson (dict "b" (list 1 2.5 true "x<y") "a" nil)"#,
            r#"{"a":null,"b":[1,2.5,true,"x\u003cy"]}"#,
        ),
        (r#"toRawJson (list "x<y")"#, r#"["x<y"]"#),
        (r#"toPrettyJson (list 1)"#, "[\n  1\n]"),
        (r#"(fromJson "{\"a\": [1, \"b\"]}").a"#, "[1 b]"),
    ]);
}

#[test]
fn tinkerbell_s_own() {
    check(&[
        (r#"formatPartition "/dev/sda" 1"#, "/dev/sda1"),
        (r#"formatPartition "/dev/nvme0n1" 2"#, "/dev/nvme0n1p2"),
        (r#"formatPartition "/dev/mmcblk0" 1"#, "/dev/mmcblk0p1"),
        (r#"formatPartition "/dev/loop0" 1"#, "/dev/loop0p1"),
        (r#"formatPartition "/dev/md0" 1"#, "/dev/md0p1"),
        (r#"formatPartition "vda" 3"#, "vda3"),
        (r#"formatPartition "nvme0n1" 3"#, "nvme0n1p3"),
        (r#"formatPartition "serial=abc1" 3"#, "serial=abc1-part3"),
        (r#"formatPartition "size>=100G" 3"#, "size>=100G-part3"),
        (r#"formatPartition "virtio-disk1" 3"#, "virtio-disk1-part3"),
        (
            r#"formatPartition "/dev/disk/by-path/pci-0000:00:1f.2-ata-1" 2"#,
            "/dev/disk/by-path/pci-0000:00:1f.2-ata-1-part2",
        ),
        (
            r#"formatPartition "/dev/disk/by-diskseq/4" 2"#,
            "/dev/disk/by-diskseq/4-part2",
        ),
        (
            r#"formatPartition "/dev/disk/by-id/wwn-0x5" 3"#,
            "/dev/disk/by-id/wwn-0x5-part3",
        ),
        (r#"netmaskToPrefixLength "255.255.255.0""#, "24"),
        (r#"netmaskToPrefixLength "0.0.0.0""#, "0"),
        (r#"netmaskToPrefixLength "255.255.255.255""#, "32"),
        (
            r#"toYaml (dict "a" (list 1 "x") "b" "true")"#,
            "a:\n- 1\n- x\nb: \"true\"",
        ),
        (r#"(fromYaml "a: [1, b]").a"#, "[1 b]"),
    ]);
}

#[test]
fn printing_as_go_does() {
    check(&[
        (r#"print "a" 1 2 "b" "c" 3"#, "a1 2bc3"),
        (r#"println "a" 1"#, "a 1\n"),
        (
            r#"printf "%s-%05d-%q-%v-%x" "a" 42 "q" (list 1) 255"#,
            "a-00042-\"q\"-[1]-ff",
        ),
        (r#"printf "%d%%" 5"#, "5%"),
        (r#"printf "plain""#, "plain"),
        (r#"html "<a>""#, "&lt;a&gt;"),
        (r#"js "it's""#, "it\\'s"),
        (r#"urlquery "a b""#, "a+b"),
    ]);
}

#[test]
fn errors_name_the_function_and_the_value() {
    for (expression, want) in [
        ("upper 5", "upper: wants a string, got int 5"),
        ("upper", "upper: wants 1 argument, got 0"),
        (r#"replace "a" "b""#, "replace: wants 3 arguments, got 2"),
        ("div 1 0", "div: the result is no number of 64 bits"),
        (
            "add 9223372036854775807 1",
            "add: the result is no number of 64 bits",
        ),
        (
            "mod (sub -9223372036854775807 1) -1",
            "mod: the result is no number of 64 bits",
        ),
        (r#"int "x""#, "int: wants a whole number, got \"x\""),
        ("first 5", "first: wants a list, got int 5"),
        (r#"get "x" "y""#, "get: wants a dict, got \"x\""),
        (
            r#"repeat -1 "x""#,
            "repeat: wants a number of at least 0, got int -1",
        ),
        (r#"repeat 300000 "x""#, "repeat: would give more than 262144 B"),
        (
            r#"indent 999999999999 "x""#,
            "indent: would give more than 262144 B",
        ),
        ("until 100001", "until: would give more than 100000 items"),
        ("seq", "seq: wants 1 to 3 arguments, got 0"),
        (r#"regexMatch "(" "x""#, "regexMatch: \"(\": unclosed group"),
        (
            r#"regexMatch "(a{1000}){1000}" "x""#,
            "regexMatch: \"(a{1000}){1000}\": Compiled regex exceeds size limit of 262144 bytes.",
        ),
        (r#"b64dec "!""#, "b64dec: invalid length at 0"),
        (r#"b64dec "/w==""#, "b64dec: what was encoded is no text"),
        (r#"ternary 1 2 3"#, "ternary: wants true or false, got int 3"),
        (r#"fail "no disk""#, "fail: no disk"),
        (
            r#"netmaskToPrefixLength "255.0.255.0""#,
            "netmaskToPrefixLength: wants an IPv4 netmask like 255.255.255.0, got \"255.0.255.0\"",
        ),
        (r#"fromYaml """#, "fromYaml: the text is empty"),
        (r#"dig "a" (dict)"#, "dig: wants at least 3 arguments, got 2"),
        (
            r#"printf "%*d" 999999999 1"#,
            "printf: would give more than 262144 B",
        ),
        (
            r#"printf "%999999999d" 1"#,
            "printf: would give more than 262144 B",
        ),
    ] {
        let error = run(&format!("{{{{ {expression} }}}}")).unwrap_err();
        assert_eq!(error, want, "{expression}");
    }
}

#[test]
fn text_and_lists_that_double_end_in_an_error() {
    for body in [
        "print $x $x",
        "printf \"%s%s\" $x $x",
        "cat $x $x",
        "list $x $x",
        "dict \"a\" $x \"b\" $x",
        "js $x | cat \"\\\\\"",
    ] {
        let template = format!(
            "{{{{ $x := \"\\\\\" }}}}{{{{ range until 100 }}}}{{{{ $x = {body} }}}}{{{{ end }}}}{{{{ len $x }}}}"
        );
        match run(&template) {
            Ok(len) => assert!(len.len() < 6, "{body}: {len}"),
            Err(error) => assert!(error.contains("arguments are too large"), "{body}: {error}"),
        }
    }
}

#[test]
fn a_template_that_works_too_much_ends_in_an_error() {
    let error = run("{{ $x := repeat 200000 \"a\" }}{{ range until 10000 }}{{ $y := upper $x }}{{ end }}")
        .unwrap_err();
    assert_eq!(error, "upper: the template does too much work");
}
