"""The pincontrol face: control ids of 30 seconds, pages for a webview and for an iframe."""
