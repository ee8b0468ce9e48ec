//! The audit in a file: one message a line, only ever appended to. Rotating it is the administrator's (logrotate): a file that was moved away is
//! followed by a new one of the old name.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::message::Message;

/// A file that lines are appended to.
#[derive(Debug)]
pub(crate) struct AuditFile {
    path: PathBuf,
    open: Option<File>,
}

impl AuditFile {
    /// Nothing is opened before there is something to write.
    pub(crate) fn new(path: PathBuf) -> AuditFile {
        AuditFile { path, open: None }
    }

    /// Appends messages and flushes them to the disk.
    pub(crate) async fn append(&mut self, messages: &[Message]) -> io::Result<()> {
        let mut lines = String::new();
        for message in messages {
            lines.push_str(&message.xml);
            lines.push('\n');
        }
        let (path, open) = (self.path.clone(), self.open.take());
        let work = move || {
            let mut file = still_there(&path, open)?;
            file.write_all(lines.as_bytes())?;
            file.sync_data()?;
            Ok::<_, io::Error>(file)
        };
        // After an error the file is opened anew, and a line that was half written is ended then.
        self.open = Some(tokio::task::spawn_blocking(work).await.map_err(io::Error::other)??);
        Ok(())
    }
}

/// The open file if it still has its name; else the one that has it now, made where there is none.
fn still_there(path: &Path, open: Option<File>) -> io::Result<File> {
    if let Some(file) = open {
        let (is, was) = (std::fs::metadata(path), file.metadata()?);
        if is.is_ok_and(|is| (is.dev(), is.ino()) == (was.dev(), was.ino())) {
            return Ok(file);
        }
    }
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)?;
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()?;
    if file.metadata()?.len() > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        Message {
            id: 1,
            at: String::new(),
            failed: false,
            xml: text.to_owned(),
        }
    }

    #[tokio::test]
    async fn a_file_that_was_moved_away_is_followed_by_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.xml");
        let mut file = AuditFile::new(path.clone());
        file.append(&[message("<a/>"), message("<b/>")]).await.unwrap();
        std::fs::rename(&path, dir.path().join("audit.xml.1")).unwrap();
        file.append(&[message("<c/>")]).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        file.append(&[message("<d/>")]).await.unwrap();
        file.append(&[message("<e/>")]).await.unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("audit.xml.1")).unwrap(), "<a/>\n<b/>\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "<d/>\n<e/>\n");
    }

    #[tokio::test]
    async fn a_line_that_a_crash_cut_is_ended_and_nothing_of_it_is_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.xml");
        std::fs::write(&path, "<a/>\n<b").unwrap();
        AuditFile::new(path.clone()).append(&[message("<b/>")]).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "<a/>\n<b\n<b/>\n");
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_an_error_and_may_come() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("later/audit.xml");
        let mut file = AuditFile::new(path.clone());
        assert!(file.append(&[message("<a/>")]).await.is_err());
        std::fs::create_dir(dir.path().join("later")).unwrap();
        file.append(&[message("<a/>")]).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "<a/>\n");
    }
}
