//! `filmroom import`: walks files and folders and takes each DICOM file in, through the same path as a C-STORE.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};

use crate::actions::Action;
use crate::cli::act::Performer;
use crate::config::Config;

/// Files on their way at once.
const PARALLEL: usize = 8;

/// Imports everything below the paths; fails if any file was refused, after all were tried.
pub(crate) async fn run(config: &Config, paths: &[PathBuf], json: bool) -> anyhow::Result<()> {
    let performer = Performer::find(config).await?;
    let bar = progress();
    let (taken, refused) = import_all(&performer, paths, &bar).await;
    bar.finish_and_clear();
    performer.finish().await;
    if json {
        let refused: Vec<_> = refused
            .iter()
            .map(|(path, why)| serde_json::json!({ "path": path, "why": why }))
            .collect();
        println!("{}", serde_json::json!({ "imported": taken, "refused": refused }));
    } else {
        println!("{taken} imported, {} refused", refused.len());
        for (path, why) in &refused {
            println!("  {}: {why}", path.display());
        }
    }
    if !refused.is_empty() {
        bail!("{} files were refused", refused.len());
    }
    Ok(())
}

/// How many files were taken, and which were not.
async fn import_all(performer: &Performer, paths: &[PathBuf], bar: &ProgressBar) -> (u64, Vec<(PathBuf, String)>) {
    let files = futures::stream::iter(Walk::new(paths));
    let mut results = std::pin::pin!(files.map(|file| import_one(performer, file)).buffer_unordered(PARALLEL));
    let (mut taken, mut refused) = (0, Vec::new());
    while let Some((path, result)) = results.next().await {
        bar.inc(1);
        match result {
            Ok(()) => taken += 1,
            Err(error) => refused.push((path, format!("{error:#}"))),
        }
    }
    (taken, refused)
}

async fn import_one(performer: &Performer, file: std::io::Result<PathBuf>) -> (PathBuf, anyhow::Result<()>) {
    let path = match file {
        Ok(path) => path,
        Err(error) => return (PathBuf::new(), Err(error.into())),
    };
    // The node's working directory may be another one.
    let result = match std::path::absolute(&path) {
        Ok(absolute) => performer.perform(&Action::Import { path: absolute }).await.map(|_| ()),
        Err(error) => Err(error.into()),
    };
    (path, result)
}

fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} files, {per_sec}, {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Files below some paths, folder by folder in the order of names, one folder's listing in memory at a time. Links are not followed.
struct Walk {
    waiting: VecDeque<PathBuf>,
}

impl Walk {
    fn new(paths: &[PathBuf]) -> Walk {
        Walk {
            waiting: paths.iter().cloned().collect(),
        }
    }

    fn list(&mut self, folder: &Path) -> std::io::Result<()> {
        let mut entries = std::fs::read_dir(folder)?
            .map(|entry| entry.map(|e| e.path()))
            .collect::<std::io::Result<Vec<_>>>()?;
        entries.sort();
        entries.into_iter().rev().for_each(|entry| self.waiting.push_front(entry));
        Ok(())
    }
}

impl Iterator for Walk {
    type Item = std::io::Result<PathBuf>;

    fn next(&mut self) -> Option<std::io::Result<PathBuf>> {
        loop {
            let path = self.waiting.pop_front()?;
            let kind = match std::fs::symlink_metadata(&path) {
                Ok(metadata) => metadata.file_type(),
                Err(error) => return Some(Err(std::io::Error::new(error.kind(), format!("{}: {error}", path.display())))),
            };
            if kind.is_dir() {
                if let Err(error) = self.list(&path) {
                    return Some(Err(std::io::Error::new(error.kind(), format!("{}: {error}", path.display()))));
                }
            } else if kind.is_file() {
                return Some(Ok(path));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_meets_every_file_once_in_the_order_of_names() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["b/2.dcm", "b/1.dcm", "a.dcm", "c/d/3.dcm"] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let found: Vec<_> = Walk::new(&[dir.path().to_path_buf()])
            .map(|f| f.unwrap().strip_prefix(dir.path()).unwrap().display().to_string())
            .collect();
        assert_eq!(found, ["a.dcm", "b/1.dcm", "b/2.dcm", "c/d/3.dcm"]);
    }

    #[test]
    fn a_path_that_is_not_there_is_an_error() {
        assert!(Walk::new(&[PathBuf::from("/no/such/place")]).next().unwrap().is_err());
    }
}
