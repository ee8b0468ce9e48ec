//! C-FIND (PS3.4 C.4.1): Query SCP.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::association::{Association, AssociationError};
use crate::dimse::CFindRequest;
use crate::services::Context;

/// Serves one request.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send>(
    node: &Context,
    association: &mut Association<S>,
    context: u8,
    request: CFindRequest,
) -> Result<(), AssociationError> {
    let _ = (node, association, context, request);
    todo!()
}
