//! A disk in memory that keeps a record of what was done to it, and fails when it is told to.

use std::io;
use std::sync::{Arc, Mutex};

use redb::StorageBackend;

/// What is on a disk.
pub type Image = Vec<u8>;

/// Something that a power cut can come after.
#[derive(Clone, Debug)]
pub enum Happened {
    /// This many groups were acknowledged by now; 0: the store was opened.
    Acknowledged(usize),
    Resized(u64),
    Synced,
    Written(u64, Arc<[u8]>),
}

#[derive(Clone, Debug)]
pub struct Disk(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    now: Image,
    happened: Vec<Happened>,
    /// Calls that change something, so far.
    calls: usize,
    fails: Option<Failure>,
}

/// One call fails, those after it do not.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    pub call: usize,
    pub errno: i32,
}

impl Disk {
    pub fn empty() -> Disk {
        Disk::new(Image::new())
    }

    pub fn new(image: Image) -> Disk {
        Disk(Arc::new(Mutex::new(Inner {
            now: image,
            ..Inner::default()
        })))
    }

    pub fn failing(image: Image, failure: Failure) -> Disk {
        let disk = Disk::new(image);
        disk.0.lock().unwrap().fails = Some(failure);
        disk
    }

    pub fn note(&self, happened: Happened) {
        self.0.lock().unwrap().happened.push(happened);
    }

    pub fn happened(&self) -> Vec<Happened> {
        self.0.lock().unwrap().happened.clone()
    }

    pub fn image(&self) -> Image {
        self.0.lock().unwrap().now.clone()
    }

    pub fn calls(&self) -> usize {
        self.0.lock().unwrap().calls
    }
}

impl Happened {
    /// Does it to an image.
    pub fn apply(&self, image: &mut Image) {
        match self {
            Happened::Written(offset, data) => write(image, *offset, data),
            Happened::Resized(len) => image.resize(usize::try_from(*len).unwrap(), 0),
            Happened::Acknowledged(_) | Happened::Synced => {}
        }
    }
}

/// A write behind the end makes the file longer.
pub fn write(image: &mut Image, offset: u64, data: &[u8]) {
    let start = usize::try_from(offset).unwrap();
    let end = start + data.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[start..end].copy_from_slice(data);
}

impl Inner {
    fn call(&mut self) -> io::Result<()> {
        let call = self.calls;
        self.calls += 1;
        match self.fails {
            Some(failure) if failure.call == call => Err(io::Error::from_raw_os_error(failure.errno)),
            _ => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.0.lock().unwrap();
        let offset = usize::try_from(offset).unwrap();
        let bytes = inner
            .now
            .get(offset..offset + out.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap();
        inner.call()?;
        let resized = Happened::Resized(len);
        resized.apply(&mut inner.now);
        inner.happened.push(resized);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap();
        inner.call()?;
        inner.happened.push(Happened::Synced);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap();
        let answer = inner.call();
        // A write that fails may have been done in part.
        let data = if answer.is_ok() {
            data
        } else {
            &data[..data.len() / 2]
        };
        write(&mut inner.now, offset, data);
        inner.happened.push(Happened::Written(offset, data.into()));
        answer
    }
}
