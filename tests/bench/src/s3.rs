//! The bare limit of the cold store: the same objects put and got with aws-sdk-s3 and nothing behind it, or the least that a recall does ([`crate::recall`]).

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use crate::chance::Chance;
use crate::recall::Recall;

/// Which bucket, and how much at once.
#[derive(Debug, clap::Args)]
pub(crate) struct Bucket {
    /// Endpoint of the server
    #[arg(long)]
    endpoint: String,
    /// The bucket, which is there
    #[arg(long)]
    bucket: String,
    /// Access key
    #[arg(long, env = "FILMROOM_TEST_S3_KEY", default_value = "filmroom")]
    key: String,
    /// Its secret
    #[arg(long, env = "FILMROOM_TEST_S3_SECRET", default_value = "filmroom-secret")]
    secret: String,
    /// What the keys begin with
    #[arg(long)]
    prefix: String,
    /// Requests at once
    #[arg(long, default_value_t = 4)]
    parallel: usize,
}

/// What is put.
#[derive(Debug, clap::Args)]
pub(crate) struct Put {
    #[command(flatten)]
    bucket: Bucket,
    /// Bytes of an object
    #[arg(long)]
    length: usize,
    /// How many
    #[arg(long, default_value_t = 1)]
    objects: u64,
}

/// What is got.
#[derive(Debug, clap::Args)]
pub(crate) struct Fetch {
    #[command(flatten)]
    bucket: Bucket,
    /// What the keys end with
    #[arg(long, default_value = ".zip")]
    suffix: String,
    /// A directory, in which all that comes is kept, in place of what was kept before, in files as long as a CT slice: each is flushed, renamed and its directory flushed, four at once
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Sends each of these files by C-STORE, too, one after the other, to a receiver of ours on this port
    #[arg(long, requires = "keep")]
    receive: Option<u16>,
}

/// Puts, and prints one line of JSON.
#[tokio::main]
pub(crate) async fn run_put(arguments: &Put) -> Result<()> {
    let bucket = &arguments.bucket;
    let client = bucket.client().await;
    let content = bytes::Bytes::from(Chance::of(1).bytes(arguments.length));
    // Whoever offloads has been connected for long.
    client.head_bucket().bucket(&bucket.bucket).send().await?;
    let since = Instant::now();
    let puts = stream::iter(0..arguments.objects).map(|number| {
        let put = client.put_object().bucket(&bucket.bucket).key(format!("{}{number}", bucket.prefix));
        put.body(ByteStream::from(content.clone())).send()
    });
    let put: Vec<_> = puts.buffer_unordered(bucket.parallel).try_collect().await?;
    report(put.len(), put.len() as u64 * content.len() as u64, since.elapsed());
    Ok(())
}

/// Gets, and prints one line of JSON.
#[tokio::main]
pub(crate) async fn run_fetch(arguments: &Fetch) -> Result<()> {
    let bucket = &arguments.bucket;
    let client = bucket.client().await;
    let listed = client
        .list_objects_v2()
        .bucket(&bucket.bucket)
        .prefix(&bucket.prefix)
        .send()
        .await?;
    let keys = listed.contents().iter().filter_map(|object| object.key());
    let keys: Vec<&str> = keys.filter(|key| key.ends_with(&arguments.suffix)).collect();
    let since = Instant::now();
    let recall = arguments
        .keep
        .as_deref()
        .map(|directory| Recall::start(directory, arguments.receive));
    let recall = recall.transpose()?;
    let gets = stream::iter(keys).map(|key| {
        let get = client.get_object().bucket(&bucket.bucket).key(key);
        let mut keeping = recall.as_ref().map(Recall::keep);
        async move {
            let mut body = get.send().await?.body;
            let mut length = 0;
            while let Some(piece) = body.try_next().await? {
                length += piece.len() as u64;
                if let Some(keeping) = &mut keeping {
                    keeping.take(&piece).await?;
                }
            }
            if let Some(keeping) = keeping {
                keeping.end().await?;
            }
            anyhow::Ok(length)
        }
    });
    let got: Vec<u64> = gets.buffer_unordered(bucket.parallel).try_collect().await?;
    if let Some(recall) = recall {
        recall.end().await?;
    }
    report(got.len(), got.iter().sum(), since.elapsed());
    Ok(())
}

impl Bucket {
    async fn client(&self) -> Client {
        let credentials = Credentials::new(&self.key, &self.secret, None, None, "command line");
        let loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).region(Region::new("us-east-1"));
        let shared = loader.credentials_provider(credentials).load().await;
        let config = aws_sdk_s3::config::Builder::from(&shared)
            .endpoint_url(&self.endpoint)
            .force_path_style(true);
        Client::from_conf(config.build())
    }
}

fn report(objects: usize, bytes: u64, took: Duration) {
    let seconds = took.as_secs_f64();
    println!(
        "{}",
        json!({"objects": objects, "bytes": bytes, "seconds": seconds, "mb_per_second": bytes as f64 / 1e6 / seconds})
    );
}
