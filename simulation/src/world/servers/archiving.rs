//! Workflows that have ended go into archives, and come back: as the server does it, step by step on the agenda.

use std::collections::VecDeque;

use coordinator::Input;
use coordinator::archive::{Member, Readiness, Restoring};
use store::blobs::Digest;
use store::{Commit, Store, StoreError};

use super::Origin;
use crate::Breakage;
use crate::archives::Archives;
use crate::world::{Happening, World};

/// After a root has ended, at most.
const AFTER_MS: u64 = 600_000;
/// It is not ready, or the disk failed.
const AGAIN_MS: u64 = 60_000;

/// A commit, and what its blobs are.
pub(in crate::world) struct Archiving {
    root: String,
    id: String,
    pub(super) commit: Commit,
    blobs: Vec<Digest>,
}

/// Commits that bring a workflow back, and what then goes on.
pub(in crate::world) struct BringingBack {
    id: String,
    commits: VecDeque<Commit>,
    input: Input,
    pub(super) origin: Origin,
}

impl World {
    pub(super) fn will_archive(&mut self, server: usize, root: String) {
        let after = self.dice.span(AFTER_MS);
        self.archives_after(server, root, after);
    }

    fn archives_after(&mut self, server: usize, root: String, after: u64) {
        let life = self.servers[server].life;
        self.plan(after, Happening::Archives { server, life, root });
    }

    /// The blobs of the first of those that are ready are put; the commit is on its way.
    pub(in crate::world) fn archives(&mut self, server: usize, life: u64, root: String) {
        if self.servers[server].life != life || !self.servers[server].is_up() {
            return;
        }
        let members = match Readiness::of(&*self.disk, &root) {
            Ok(Readiness::Ready(members)) => members,
            Ok(Readiness::Gone) => return,
            Ok(Readiness::NotYet(why)) => {
                self.coverage.fault("archive: not yet");
                self.say(format!("server {server} does not archive {root} yet: {why}"));
                return self.archives_after(server, root, AGAIN_MS);
            }
            Err(error) => return self.break_down(format!("{root} cannot be archived: {error}")),
        };
        let Some(member) = members.first() else { return };
        let parts = match self.pack(member) {
            Ok(parts) => parts,
            // The server tries again later, as after any error.
            Err(error) if error.is_expired() => {
                self.coverage.fault("archive: its snapshot expires");
                return self.archives_after(server, root, AGAIN_MS);
            }
            Err(error) => return self.break_down(format!("{root} cannot be packed: {error}")),
        };
        let blobs = parts.iter().map(|(_, blob)| *blob).collect();
        let archiving = Archiving {
            root,
            id: member.id().to_owned(),
            commit: member.commit(parts),
            blobs,
        };
        let this = &mut self.servers[server];
        this.last_job += 1;
        let job = this.last_job;
        this.archiving.insert(job, archiving);
        let after = self.dice.span(100);
        self.plan(after, Happening::ArchiveCommits { server, life, job });
    }

    fn pack(&mut self, member: &Member) -> Result<Vec<(String, Digest)>, StoreError> {
        let mut packer = member.packer(&*self.disk, Vec::new())?;
        let mut parts = Vec::new();
        while let Some(part) = packer.next_part()? {
            parts.push((part.first, self.archives.put(part.bytes)));
        }
        Ok(parts)
    }

    pub(in crate::world) fn archive_commits(&mut self, server: usize, life: u64, job: u64) {
        if self.servers[server].life != life {
            return;
        }
        let Some(archiving) = self.servers[server].archiving.remove(&job) else {
            return;
        };
        let Archiving {
            root,
            id,
            commit,
            blobs,
        } = archiving;
        match self.disk.commit(&commit) {
            Ok(_) => {
                self.coverage.fault("archive: archived");
                self.say(format!("server {server} has archived {id}"));
                if self.settings.breakage == Some(Breakage::ArchiveIsNotSynced) {
                    blobs.iter().for_each(|blob| self.archives.lose(blob));
                }
                self.forget_workflow(server, &id);
                if id != root {
                    self.archives_after(server, root, 0);
                }
            }
            Err(error) => {
                if error.is_conflict() {
                    self.coverage.fault("archive: a conflict");
                }
                // It may have happened.
                self.forget_workflow(server, &id);
                self.archives_after(server, root, AGAIN_MS);
            }
        }
    }

    /// Somebody wants something of a workflow that is archived.
    pub(super) fn bring_back(&mut self, server: usize, id: &str, input: Input, origin: Origin) {
        let commits = match self.commits_back(id) {
            Ok(commits) => commits,
            Err(what) => return self.break_down(format!("{id} cannot be brought back: {what}")),
        };
        self.say(format!("server {server} brings {id} back"));
        let this = &mut self.servers[server];
        this.last_job += 1;
        let job = this.last_job;
        let life = this.life;
        let bringing = BringingBack {
            id: id.to_owned(),
            commits,
            input,
            origin,
        };
        this.bringing_back.insert(job, bringing);
        self.plan(0, Happening::BringsBack { server, life, job });
    }

    fn commits_back(&self, id: &str) -> Result<VecDeque<Commit>, String> {
        let Some((archived, modified)) = Archives::of(&self.disk, id)? else {
            return Ok(VecDeque::new());
        };
        let mut restoring = Restoring::new(id, modified);
        let mut commits = VecDeque::new();
        for part in &archived.parts {
            commits.extend(restoring.part(self.archives.rows(&part.blob)?).commits);
        }
        commits.push_back(restoring.finish().ok_or("its archive has no head")?);
        Ok(commits)
    }

    pub(in crate::world) fn brings_back(&mut self, server: usize, life: u64, job: u64) {
        if self.servers[server].life != life {
            return;
        }
        let Some(bringing) = self.servers[server].bringing_back.get_mut(&job) else {
            return;
        };
        let Some(commit) = bringing.commits.pop_front() else {
            return self.is_back(server, job);
        };
        match self.disk.commit(&commit) {
            Ok(_) => {
                let after = self.dice.span(20);
                self.plan(after, Happening::BringsBack { server, life, job });
            }
            // Another server was faster, or nobody knows: whoever wants it looks again.
            Err(_) => {
                self.coverage.fault("archive: bringing back is broken off");
                self.is_back(server, job);
            }
        }
    }

    fn is_back(&mut self, server: usize, job: u64) {
        let Some(bringing) = self.servers[server].bringing_back.remove(&job) else {
            return;
        };
        let BringingBack {
            id, input, origin, ..
        } = bringing;
        self.coverage.fault("archive: brought back");
        self.forget_workflow(server, &id);
        // It may not be wanted after all.
        let root = self.workflow(&id).map(|workflow| workflow.root().to_owned());
        if let Some(root) = root {
            self.will_archive(server, root);
        }
        self.start_job(server, input, origin);
    }

    fn forget_workflow(&self, server: usize, id: &str) {
        if let Some(coordinator) = &self.servers[server].coordinator {
            coordinator.forget_workflow(id);
        }
    }
}
