//! Images that cannot be written: the action fails with the reason in words, and the disk does not boot.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use qemu_tests::lab::documents::DISK;
use qemu_tests::lab::machine::Machine;

use crate::image::{BOOTED, TestImage};
use crate::scene::{Scene, reboot, scene, write_image, write_image_with_digest};

#[test]
fn an_image_that_is_not_there_fails_at_once_with_404_and_shows_no_credential() {
    scene(|scene| {
        let url = scene
            .url("missing.raw.zst")
            .replacen("http://", "http://root:SECRET@", 1);
        let url = format!("\"{url}?X-Amz-Signature=SECRET\"");
        let message = fails_before_its_first_write(scene, &write_image(&url, DISK, &[]));
        assert!(
            message.contains("404") && message.contains("missing.raw.zst?X-Amz-Signature=***"),
            "{message}"
        );
        assert!(message.contains("http://***@"), "{message}");
        let log = std::fs::read_to_string(scene.world.server.log()).unwrap();
        assert!(!log.contains("SECRET"), "{log}");
        let entries = scene.world.api.boot_log("m1").unwrap();
        assert!(
            entries
                .iter()
                .all(|entry| !format!("{entry:?}").contains("SECRET"))
        );
    });
}

#[test]
fn an_image_with_another_checksum_fails_and_its_disk_does_not_boot() {
    scene(|scene| {
        let image = TestImage::create(&scene.images, "noise.raw.zst", 8 << 20);
        let wrong = "0".repeat(64);
        let message = fails(scene, &write_image_with_digest(&scene.url(&image.name), &wrong));
        assert!(
            message.contains(&wrong) && message.contains(&image.sha256),
            "{message}"
        );
    });
}

#[test]
fn an_image_that_stops_half_way_fails() {
    scene(|scene| {
        let image = TestImage::create(&scene.images, "noise.raw.zst", 16 << 20);
        let content = std::fs::read(scene.images.join(&image.name)).unwrap();
        let listener = TcpListener::bind("10.77.0.1:8080").unwrap();
        thread::spawn(move || serve_one_half(&listener, &content));
        let action = write_image_with_digest("http://10.77.0.1:8080/half.raw.zst", &image.sha256);
        let message = fails(scene, &action);
        assert!(
            message.contains("http://10.77.0.1:8080/half.raw.zst"),
            "{message}"
        );
    });
}

#[test]
fn a_disk_that_is_too_small_is_not_written() {
    scene(|scene| {
        let image = TestImage::create(&scene.images, "noise.raw.zst", 32 << 20);
        let mut machine = scene.machine(1, 16 << 20);
        machine.power_on().unwrap();
        let workflow = scene.workflow(
            &machine,
            &[write_image_with_digest(&scene.url(&image.name), &image.sha256)],
        );
        let message = scene.failure_of(&workflow);
        assert!(message.contains(&(16u64 << 20).to_string()), "{message}");
        assert!(message.contains(&image.raw_bytes.to_string()), "{message}");
        assert_eq!(
            machine.disk(0).written_bytes().unwrap(),
            0,
            "something was written to the disk"
        );
    });
}

#[test]
fn a_disk_that_is_not_there_fails_with_the_disks_that_are() {
    scene(|scene| {
        let image = TestImage::create(&scene.images, "noise.raw.zst", 1 << 20);
        let action = write_image(&scene.url(&image.name), "/dev/nvme7n1", &[]);
        let message = fails_before_its_first_write(scene, &action);
        assert!(
            message.contains("/dev/nvme7n1") && message.contains(DISK),
            "{message}"
        );
    });
}

/// The action fails; the disk has nothing that boots, and a reset machine comes back to the agent.
fn fails(scene: &Scene, action: &str) -> String {
    let (mut machine, message) = failed(scene, action);
    comes_back_to_the_agent(&mut machine);
    message
}

/// The action fails; nothing was written, and the machine boots what it would have booted without it.
fn fails_before_its_first_write(scene: &Scene, action: &str) -> String {
    let (mut machine, message) = failed(scene, action);
    assert_eq!(machine.disk(0).written_bytes().unwrap(), 0, "{message}");
    let record = scene.world.api.machine("m1").unwrap();
    assert_eq!(
        (record.boots_next.as_str(), record.boots_next_reason.as_str()),
        (
            "local-disk",
            "no workflow has written to its disk, and its netboot policy is local"
        )
    );
    message
}

fn failed(scene: &Scene, action: &str) -> (Machine, String) {
    let mut machine = scene.machine(1, 64 << 20);
    machine.power_on().unwrap();
    let workflow = scene.workflow(&machine, &[action.to_owned(), reboot()]);
    let message = scene.failure_of(&workflow);
    assert!(
        !machine.disk(0).looks_bootable().unwrap(),
        "the disk looks bootable after: {message}"
    );
    let console = machine.serial().text();
    assert!(!console.contains("SECRET"), "{console}");
    (machine, message)
}

fn comes_back_to_the_agent(machine: &mut Machine) {
    let mark = machine.serial().mark();
    machine.reset().unwrap();
    machine
        .serial()
        .wait_for("farrier: stage=attached", mark, Duration::from_secs(180))
        .unwrap();
    assert!(!machine.serial().text().contains(BOOTED), "the disk has booted");
}

/// Promises all of `content` to the first who asks, sends half, and answers nobody else.
fn serve_one_half(listener: &TcpListener, content: &[u8]) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut request = BufReader::new(stream.try_clone().unwrap())
        .lines()
        .map_while(Result::ok);
    assert!(request.any(|line| line.is_empty()), "the request has an end");
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nETag: \"half\"\r\nAccept-Ranges: bytes\r\n\r\n",
        content.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&content[..content.len() / 2]).unwrap();
    drop(stream);
    for connection in listener.incoming() {
        drop(connection);
    }
}
