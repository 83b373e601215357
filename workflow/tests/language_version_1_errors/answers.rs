//! Tasks that wait for an answer of a system: what cannot be asked, and who cannot be.

use super::check_task;

#[test]
fn bad_answers() {
    for (fields, messages) in [
        (
            "worker: w, answers: ssh, timeout: 1m",
            vec!["4, 36: answers must be a map (key: value), not \"ssh\": write answers: {by: ssh}"],
        ),
        (
            "worker: w, answers: {by: ping}, timeout: 1m",
            vec!["4, 41: answers by \"ping\" is not known: write ssh or http"],
        ),
        (
            "worker: w, answers: {port: 22}, timeout: 1m",
            vec!["4, 36: answers has no by: write ssh or http"],
        ),
        (
            "worker: w, answers: {by: ssh, port: 70000, path: /x, status: 200}, timeout: 1m",
            vec![
                "4, 52: port \"70000\" is no whole number from 1 to 65535",
                "4, 65: path is for answers by http: leave it out, or write by: http",
                "4, 77: status is for answers by http: leave it out, or write by: http",
            ],
        ),
        (
            "worker: w, answers: {by: http, path: healthz, status: 99}, timeout: 1m",
            vec![
                "4, 53: path \"healthz\" is none: it begins with a slash and has no space, like /healthz",
                "4, 70: status \"99\" is no whole number from 100 to 599",
            ],
        ),
        (
            "answers: {by: ssh, address: '10.0.0.7:22'}, timeout: 1m",
            vec![
                "4, 44: address \"10.0.0.7:22\" is neither an IP address nor the name of a host: write one, without a port",
            ],
        ),
        (
            "answers: {by: ssh}, timeout: 1m",
            vec!["4, 25: answers has nobody to ask: write the task's worker, or an address"],
        ),
        (
            "worker: w, answers: {by: ssh}",
            vec!["4, 3: answers has no timeout: write how long the task waits at most, like timeout: 30m"],
        ),
        (
            "worker: w, answers: {by: ssh}, timeout: 0",
            vec!["4, 56: answers has no timeout: write how long the task waits at most, like timeout: 30m"],
        ),
        (
            "worker: w, answers: {by: ssh}, timeout: 1m, retry: {attempts: 2}",
            vec![
                "4, 67: task \"task\" has retry, which answers does not take: there is nothing to try again",
            ],
        ),
    ] {
        check_task(fields, &messages);
    }
}
