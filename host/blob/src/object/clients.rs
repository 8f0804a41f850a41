//! The clients of each kind of object store, made of the environment's options and the settings'.
//! Needs: `object_store`. Refuses: options that it does not know, by name.

use std::time::Duration;

use object_store::{ClientConfigKey, ObjectStore, RetryConfig};
use pelton_model::Result;

use super::words;
use crate::Settings;
use crate::url::refused;

/// How often one request is sent again below us, where that is harmless.
const RETRIES: usize = 3;

/// One that sends a request again where it may have been lost, and one that sends it once.
type Clients = (Box<dyn ObjectStore>, Box<dyn ObjectStore>);

#[cfg(feature = "s3")]
pub(super) fn s3(url: &str, bucket: &str, settings: &Settings) -> Result<Clients> {
    use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key};
    let mut builder = AmazonS3Builder::from_env();
    for (key, value) in &settings.options {
        builder = builder.with_config(option::<Key>(url, key)?, value);
    }
    // By its key: to set the client's options at once would drop those of the environment.
    let builder = builder
        .with_bucket_name(bucket)
        .with_config(Key::Client(ClientConfigKey::Timeout), timeout(settings));
    clients(url, settings, |retry| {
        builder.clone().with_retry(retry).build()
    })
}

#[cfg(feature = "azure")]
pub(super) fn azure(url: &str, container: &str, settings: &Settings) -> Result<Clients> {
    use object_store::azure::{AzureConfigKey as Key, MicrosoftAzureBuilder};
    let mut builder = MicrosoftAzureBuilder::from_env();
    for (key, value) in &settings.options {
        builder = builder.with_config(option::<Key>(url, key)?, value);
    }
    let builder = builder
        .with_container_name(container)
        .with_config(Key::Client(ClientConfigKey::Timeout), timeout(settings));
    clients(url, settings, |retry| {
        builder.clone().with_retry(retry).build()
    })
}

fn option<Key: std::str::FromStr>(url: &str, key: &str) -> Result<Key> {
    let parsed = key.to_ascii_lowercase().parse();
    parsed.map_err(|_| refused(url, &format!("'{key}' is no option of such a store")))
}

fn timeout(settings: &Settings) -> String {
    format!("{}ms", settings.timeout_ms)
}

fn clients<S: ObjectStore>(
    url: &str,
    settings: &Settings,
    build: impl Fn(RetryConfig) -> object_store::Result<S>,
) -> Result<Clients> {
    let client = |max_retries| -> Result<Box<dyn ObjectStore>> {
        let retry = RetryConfig {
            max_retries,
            retry_timeout: Duration::from_millis(settings.timeout_ms.saturating_mul(2)),
            ..RetryConfig::default()
        };
        match build(retry) {
            Ok(store) => Ok(Box::new(store)),
            Err(e) => Err(refused(url, &words(&e))),
        }
    };
    Ok((client(RETRIES)?, client(0)?))
}
