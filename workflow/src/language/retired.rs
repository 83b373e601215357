//! Actions of Tinkerbell's that are not built in and are not pulled under Tinkerbell's names either: they are refused when a template
//! is made, with what does the same.

use super::native::{last_part, published_name};

/// Actions that are refused, sorted: what is the matter with them, and what to use instead.
const RETIRED: [(&str, &str, &str); 3] = [
    (
        "grub2disk",
        "its image has no grub-install",
        "run the installed system's own by cexec with CHROOT: CMD_LINE: grub-install /dev/vda",
    ),
    (
        "slurp",
        "it uploads a disk to a demonstration server",
        "run dd and curl in an image of your own, which runs as a container",
    ),
    (
        "syslinux",
        "it writes SYSLINUX 3.86 of 2010",
        "write an image that has its boot loader with image2disk, or run the installed system's by cexec with CHROOT",
    ),
];

/// What is said of an action whose image is one of these; `None`: it is none.
///
/// An image means one of them as it would mean a [built-in action](super::native()).
pub(super) fn retired(action: &str, image: &str) -> Option<String> {
    let name = last_part(published_name(image)?);
    let (_, why, instead) = RETIRED.iter().find(|(retired, ..)| *retired == name)?;
    Some(format!(
        "action {action:?} is refused: {name} of Tinkerbell's ({image}) is not built in, and {why}; instead, {instead}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tinkerbells_own_are_refused_and_those_of_others_are_not() {
        for image in [
            "slurp",
            "quay.io/tinkerbell/actions/grub2disk:latest",
            "10.0.0.1:5000/tinkerbell-actions/syslinux@sha256:0123",
            "127.0.0.1/embedded/slurp",
        ] {
            let said = retired("a", image).expect(image);
            assert!(said.contains(image) && said.contains("; instead, "), "{said}");
        }
        for image in [
            "registry.example/x/slurp",
            "me/syslinux",
            "quay.io/tinkerbell/actions/kexec",
            "grub2disk2",
        ] {
            assert_eq!(retired("a", image), None, "{image}");
        }
    }
}
