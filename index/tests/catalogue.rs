//! What the catalogue promises, shown on both databases.

use filmroom_index::catalogue::Catalogue;

#[tokio::test]
async fn a_catalogue_is_made_where_there_is_none_and_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/data/catalogue.db", directory.path().display());
    for _ in 0..2 {
        let catalogue = Catalogue::open(&url).await.unwrap();
        catalogue.ping().await.unwrap();
        catalogue.close().await;
    }
}
