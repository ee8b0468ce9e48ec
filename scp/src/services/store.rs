//! C-STORE (PS3.4 B): Storage SCP.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::association::{Association, AssociationError};
use crate::dimse::CStoreRequest;
use crate::services::Context;

/// Serves one request.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send>(
    node: &Context,
    association: &mut Association<S>,
    context: u8,
    request: CStoreRequest,
) -> Result<(), AssociationError> {
    let _ = (node, association, context, request);
    todo!()
}
