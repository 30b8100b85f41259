// RFC 9440, 2.1: the client's certificate that TLS verified, its DER in base64 between colons.
function clientCert(r) {
    const pem = r.variables.ssl_client_raw_cert;
    return pem ? ':' + pem.replace(/-----[A-Z ]+-----|\s/g, '') + ':' : '';
}

// The pincontrol face's answer when the service is away. The id of a request is 128 random bits.
function pincontrolUnavailable(r) {
    const id = r.variables.request_id;
    return JSON.stringify({
        code: '503',
        message: 'Service Unavailable',
        id: [id.slice(0, 8), id.slice(8, 12), '4' + id.slice(13, 16), 'a' + id.slice(17, 20), id.slice(20)].join('-'),
        errorCode: 'TRY_LATER',
        errorType: 'INTEGRATION_ERROR',
        errorReason: 'something that the service needs is away',
        timestamp: new Date().toISOString().slice(0, 19) + 'Z',
    });
}

export default { clientCert, pincontrolUnavailable };
