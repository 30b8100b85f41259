SELECT
  EXISTS (
    SELECT * FROM clients
    WHERE clients.auth = 'public'::VARCHAR AND clients.state = 'active'::VARCHAR
      AND (
        %(origin)s::VARCHAR = any(clients.redirect_origins)
        OR %(origin)s::VARCHAR = any(clients.embed_origins)
      )
  ) AS is_origin
