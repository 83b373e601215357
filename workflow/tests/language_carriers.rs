//! Templates as the field carries them: Kubernetes objects of Tinkerbell and of EKS Anywhere.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use workflow::language::{Carried, CarriedTemplate, Devices, carried, render};
use yaml::{Kind, Place};

const TEMPLATE: &str = "\
apiVersion: tinkerbell.org/v1alpha1
kind: Template
metadata:
  name: ubuntu
  namespace: tink
spec:
  data: |
    version: \"0.1\"
    name: inner
    tasks:
      - name: os
        worker: \"{{.device_1}}\"
        actions:
          - name: look
            image: cexec

      # a comment
";

const EKS: &str = "\
---
apiVersion: anywhere.eks.amazonaws.com/v1alpha1
kind: TinkerbellTemplateConfig
metadata:
  name: my-cluster
spec:
  template:
    global_timeout: 6000
    id: \"\"
    name: my-cluster
    tasks:
    - actions:
      - environment:
          DEST_DISK: '{{ index .Hardware.Disks 0 }}'
          CONTENTS: |
            network:

              version: 2
  # less indented
        image: public.ecr.aws/eks-anywhere/image2disk:1
        name: stream
        timeout: 0600
      name: my-cluster
      worker: '{{.device_1}}'
    version: \"0.1\"
";

const WORKFLOW: &str = "\
apiVersion: \"tinkerbell.org/v1alpha1\"
kind: Workflow
metadata:
  name: install-node1
spec:
  templateRef: ubuntu
  hardwareRef: node1
  hardwareMap:
    device_1: 52:54:00:77:00:0b
    size: 12
";

fn of(text: &str) -> Carried {
    carried(text).unwrap().unwrap()
}

fn problems(text: &str) -> Vec<String> {
    let problems = carried(text).unwrap_err();
    problems.iter().map(ToString::to_string).collect()
}

fn devices() -> Devices {
    Devices {
        devices: BTreeMap::from([("device_1".into(), "52:54:00:77:00:0b".into())]),
        hardware: serde_json::json!({"spec": {"disks": [{"device": "/dev/vda"}]}}),
    }
}

#[test]
fn a_template_s_data_is_the_template_and_its_metadata_names_it() {
    let carried = of(TEMPLATE);
    let [template] = carried.templates.as_slice() else {
        panic!("{carried:?}")
    };
    assert_eq!((template.name.as_str(), template.line), ("ubuntu", 1));
    assert!(template.text.starts_with("version: \"0.1\"\nname: inner\n"));
    assert!(carried.warnings.is_empty());
    let rendered = render(&template.text, &devices()).unwrap();
    assert_eq!(rendered.definition.tasks[0].worker, "52:54:00:77:00:0b");
}

#[test]
fn a_text_that_carries_nothing_is_a_template_itself() {
    for text in [
        "",
        "version: \"0.1\"\nname: x\n",
        "worker: {{.device_1}}\n",
        "- kind: Template\n",
        "kind: Template\n",
        "tasks:\n- {{ if }}\n  kind: Template\n  apiVersion: tinkerbell.org/v1alpha1\n",
        "name: x\n---\napiVersion: v1\nkind: Namespace\n",
    ] {
        assert!(carried(text).unwrap().is_none(), "{text}");
    }
}

#[test]
fn problems_of_a_template_are_at_their_place_in_the_file() {
    let at = |template: &CarriedTemplate| {
        let problems = render(&template.text, &Devices::default()).unwrap_err();
        let found = template.in_file(problems[0].clone());
        (found.finding.place, found.quoted.trim().to_owned())
    };
    let template = &of(TEMPLATE).templates[0];
    let worker = "worker: \"{{.device_1}}\"".to_owned();
    let place = Place { line: 12, column: 20 };
    assert_eq!(at(template), (place, worker));
    let blank = TEMPLATE.replace("  data: |\n", "  data: |\n\n");
    let place = Place { line: 13, column: 20 };
    assert_eq!(at(&of(&blank).templates[0]).0, place);
    let eks = &of(EKS).templates[0];
    let disk = "DEST_DISK: '{{ index .Hardware.Disks 0 }}'".to_owned();
    let place = Place { line: 14, column: 26 };
    assert_eq!(at(eks), (place, disk));
    // Where lines are not those of the file, what can be said is said.
    let quoted = "{apiVersion: tinkerbell.org/v1alpha1, kind: Template, metadata: {name: x},\nspec: {data: \"name: x\\nworker: {{.d}}\\n\"}}\n";
    let template = &of(quoted).templates[0];
    let problems = render(&template.text, &Devices::default()).unwrap_err();
    let found = template.in_file(problems[0].clone());
    assert_eq!(found.finding.place, Place { line: 2, column: 14 });
    assert!(
        found
            .finding
            .message
            .starts_with("line 2 of it: there is no value for .d"),
        "{found}"
    );
}

#[test]
fn an_eks_template_is_the_map_with_its_lines_comments_and_quotes() {
    let carried = of(EKS);
    let [template] = carried.templates.as_slice() else {
        panic!("{carried:?}")
    };
    assert_eq!((template.name.as_str(), template.line), ("my-cluster", 2));
    assert!(
        template.text.starts_with("global_timeout: 6000\nid: \"\"\n"),
        "{}",
        template.text
    );
    assert!(
        template
            .text
            .ends_with("worker: '{{.device_1}}'\nversion: \"0.1\"\n"),
        "{}",
        template.text
    );
    let rendered = render(&template.text, &devices()).unwrap();
    let action = &rendered.definition.tasks[0].actions[0];
    assert_eq!(action.timeout_s, 600);
    assert_eq!(action.environment["DEST_DISK"], "/dev/vda");
    assert_eq!(action.environment["CONTENTS"], "network:\n\n  version: 2\n");
}

#[test]
fn an_eks_template_that_cannot_be_cut_out_is_written_anew() {
    let with = |template: &str| {
        let text = format!(
            "apiVersion: anywhere.eks.amazonaws.com/v1alpha1\nkind: TinkerbellTemplateConfig\nmetadata: {{name: x}}\nspec:\n{template}"
        );
        let text = &of(&text).templates[0].text;
        let rendered = render(text, &devices()).unwrap_or_else(|problems| panic!("{text}: {problems:?}"));
        rendered.definition.tasks[0].actions[0].environment["A"].clone()
    };
    let task = "tasks: [{name: t, worker: w, actions: [{name: a, image: cexec, environment: {A: VALUE}}]}]";
    // The map stands in one line.
    let flow = format!("  template: {{version: '0.1', name: x, {task}}}\n");
    assert_eq!(with(&flow.replace("VALUE", "0x1F")), "0x1F");
    assert_eq!(with(&flow.replace("VALUE", "\"a\\nb: 'c'\"")), "a\nb: 'c'");
    // YAML's escapes are not the template language's.
    let block = format!("  template:\n    version: '0.1'\n    name: x\n    {task}\n");
    let escaped = block.replace("VALUE", "\"{{ printf \\\"%s-2\\\" (index .Hardware.Disks 0) }}\"");
    assert_eq!(with(&escaped), "/dev/vda-2");
    // What it stands for is elsewhere.
    let aliased = format!("  other: &a it's\n{}", block.replace("VALUE", "*a"));
    assert_eq!(with(&aliased), "it's");
}

#[test]
fn a_workflow_names_template_machine_and_devices() {
    let carried = of(&format!("{WORKFLOW}---\n{TEMPLATE}"));
    assert_eq!(carried.templates.len(), 1);
    let [workflow] = carried.workflows.as_slice() else {
        panic!("{carried:?}")
    };
    assert_eq!(
        (
            workflow.name.as_str(),
            workflow.template.as_str(),
            workflow.machine.as_str()
        ),
        ("install-node1", "ubuntu", "node1")
    );
    let devices = BTreeMap::from([
        ("device_1".to_owned(), "52:54:00:77:00:0b".to_owned()),
        ("size".to_owned(), "12".to_owned()),
    ]);
    assert_eq!(workflow.devices, devices);
    let disabled = WORKFLOW.replace("  templateRef", "  disabled: true\n  templateRef");
    assert_eq!(
        problems(&disabled),
        [
            "template line 6, column 13: Workflow \"install-node1\" is disabled: take `disabled: true` out to have it made\n      \
          disabled: true"
        ]
    );
    let options = WORKFLOW.replace(
        "  templateRef",
        "  bootOptions: {bootMode: netboot}\n  templateRef",
    );
    assert_eq!(of(&options).warnings[0].finding.kind, Kind::NoEffect);
}

#[test]
fn lists_and_mixed_files_are_read_and_the_rest_is_named() {
    let indented: String = TEMPLATE.lines().map(|line| format!("  {line}\n")).collect();
    let list = format!(
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata: {{name: tink}}\n-{}",
        &indented[1..]
    );
    let carried = of(&list);
    assert_eq!(
        (carried.templates[0].name.as_str(), carried.templates[0].line),
        ("ubuntu", 7)
    );
    let said: Vec<String> = carried.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "template line 4, column 3: Namespace \"tink\" is no template, and is passed over\n    - apiVersion: v1"
        ]
    );
    let mixed = format!(
        "apiVersion: tinkerbell.org/v1alpha1\nkind: Hardware\nmetadata: {{name: n}}\n---\n{TEMPLATE}"
    );
    let carried = of(&mixed);
    assert_eq!(carried.templates.len(), 1);
    assert_eq!(
        carried.warnings[0].finding.message,
        "Hardware \"n\" is no template, and is passed over: `farrier machine apply` takes it"
    );
}

#[test]
fn what_is_wrong_with_an_object_is_said_at_its_place() {
    for (text, want) in [
        (
            TEMPLATE.replace("  name: ubuntu\n", ""),
            "template line 1, column 1: the Template has no name: write `metadata: {name: NAME}`\n    apiVersion: tinkerbell.org/v1alpha1",
        ),
        (
            TEMPLATE.replace("  data: |\n", "  data:\n"),
            "template line 8, column 5: spec.data of Template \"ubuntu\" must be text, not a map: write the template below `data: |`\n        \
             version: \"0.1\"",
        ),
        (
            TEMPLATE.replace("  data:", "  dta:"),
            "template line 7, column 3: Template \"ubuntu\" has no spec.data: write the template below `data: |`\n      dta: |",
        ),
        (
            TEMPLATE.replace("v1alpha1", "v1alpha9"),
            "template line 1, column 1: a Template of apiVersion \"tinkerbell.org/v1alpha9\" is not known: expected Template or \
             Workflow of tinkerbell.org/v1alpha1, or TinkerbellTemplateConfig of anywhere.eks.amazonaws.com/v1alpha1\n    \
             apiVersion: tinkerbell.org/v1alpha9",
        ),
        (
            TEMPLATE.replace("  namespace: tink", "  namespace: \"tink"),
            "template line 5, column 14: bad YAML: this \" is not closed: write a \" where its text ends\n      namespace: \"tink",
        ),
        (
            WORKFLOW.replace("  templateRef: ubuntu\n", ""),
            "template line 6, column 3: Workflow \"install-node1\" names no template: write `templateRef: NAME`\n      hardwareRef: node1",
        ),
    ] {
        assert_eq!(problems(&text)[0], want, "{text}");
    }
}
