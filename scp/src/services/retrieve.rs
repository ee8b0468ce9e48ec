//! C-MOVE and C-GET (PS3.4 C.4.2, C.4.3): Retrieve SCP.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::association::{Association, AssociationError};
use crate::dimse::{CGetRequest, CMoveRequest};
use crate::services::Context;

/// Serves one C-MOVE.
pub async fn serve_move<S: AsyncRead + AsyncWrite + Unpin + Send>(
    node: &Context,
    association: &mut Association<S>,
    context: u8,
    request: CMoveRequest,
) -> Result<(), AssociationError> {
    let _ = (node, association, context, request);
    todo!()
}

/// Serves one C-GET.
pub async fn serve_get<S: AsyncRead + AsyncWrite + Unpin + Send>(
    node: &Context,
    association: &mut Association<S>,
    context: u8,
    request: CGetRequest,
) -> Result<(), AssociationError> {
    let _ = (node, association, context, request);
    todo!()
}
