SELECT clients.client_id, clients.auth,
  array_remove(
    ARRAY[clients.secret_hash,
    CASE WHEN (clients.previous_secret_until > now()) THEN clients.previous_secret_hash END], NULL
  ) AS secret_hashes,
  clients.certificate_subjects, clients.redirect_origins, clients.embed_origins,
  clients.failure_image_status, clients.frame_key, clients.show_button, clients.hide_seconds,
  clients.view_style, clients.language
FROM clients WHERE clients.issuer_id = %(issuer_id)s::VARCHAR AND clients.state = 'active'::VARCHAR
