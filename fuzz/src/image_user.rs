//! What an image and a template say of an action's process. The first line says it, the others are `/etc/passwd` and, after
//! an empty line, `/etc/group`.

use container::user;
use container::{Image, Place, Request, plan};

pub(crate) fn run(bytes: &[u8]) {
    let text = crate::text(bytes);
    let (said, files) = text.split_once('\n').unwrap_or((text, ""));
    let (passwd, group) = files.split_once("\n\n").unwrap_or((files, ""));
    if let Ok(user) = user::resolve(said, passwd, group) {
        assert!(user.home.starts_with('/') && !user.groups.contains(&user.gid));
        assert!(user.uid <= i32::MAX as u32 && user.gid <= i32::MAX as u32);
    }
    let words: Vec<String> = said.split(' ').map(str::to_owned).collect();
    let image = Image {
        entrypoint: words.clone(),
        env: words.clone(),
        stop_signal: words.first().cloned(),
        ..Image::default()
    };
    let request = Request {
        volumes: words.clone(),
        ..Request::default()
    };
    for (image, request) in [
        (image, Request::default()),
        (
            Image {
                entrypoint: vec!["x".into()],
                ..Image::default()
            },
            request,
        ),
    ] {
        let Ok(plan) = plan(&image, &request, &Place::default()) else {
            continue;
        };
        assert!((1..=64).contains(&plan.stop_signal) && plan.working_dir.is_absolute());
        assert!(plan.mounts.iter().all(|mount| mount.at.is_absolute()));
        assert!(
            plan.mounts
                .iter()
                .all(|mount| mount.at.components().all(|part| part.as_os_str() != ".."))
        );
        assert!(
            !plan
                .arguments
                .iter()
                .chain(&plan.environment)
                .any(|text| text.contains('\0'))
        );
    }
}
