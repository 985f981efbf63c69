package registry

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"strconv"
	"syscall"

	"github.com/amphora-go/amphora/internal/store"
)

// failure is an error of the specification.
type failure struct {
	status  int
	code    string
	message string
	detail  any
}

func (f *failure) Error() string { return f.message }

// because is the same error with a text of its own.
func (f failure) because(message string) *failure {
	f.message = message
	return &f
}

func (f failure) with(detail any) *failure {
	f.detail = detail
	return &f
}

var (
	errNoRoute         = &failure{http.StatusNotFound, "UNSUPPORTED", "there is nothing at this path", nil}
	errMethod          = &failure{http.StatusMethodNotAllowed, "UNSUPPORTED", "method not allowed", nil}
	errReadOnly        = &failure{http.StatusMethodNotAllowed, "UNSUPPORTED", "this registry is read-only", nil}
	errInUse           = &failure{http.StatusMethodNotAllowed, "UNSUPPORTED", "a manifest of this repository needs it: delete that first", nil}
	errUnauthorized    = &failure{http.StatusUnauthorized, "UNAUTHORIZED", "log in first", nil}
	errDenied          = &failure{http.StatusForbidden, "DENIED", "access denied", nil}
	errName            = &failure{http.StatusBadRequest, "NAME_INVALID", "the name of the repository is malformed: want lower-case letters and digits, with single dots, underscores or dashes between them, and slashes", nil}
	errNoName          = &failure{http.StatusNotFound, "NAME_UNKNOWN", "no such repository", nil}
	errDigest          = &failure{http.StatusBadRequest, "DIGEST_INVALID", "the digest is malformed or not that of the content; want sha256", nil}
	errNoBlob          = &failure{http.StatusNotFound, "BLOB_UNKNOWN", "no such blob in this repository", nil}
	errNoUpload        = &failure{http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "no such upload", nil}
	errUpload          = &failure{http.StatusBadRequest, "BLOB_UPLOAD_INVALID", "the upload is broken", nil}
	errUploadBusy      = &failure{http.StatusConflict, "BLOB_UPLOAD_INVALID", "another request is writing to this upload", nil}
	errRange           = &failure{http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID", "chunks come in order: go on where the upload ends", nil}
	errSize            = &failure{http.StatusBadRequest, "SIZE_INVALID", "the content has another length than was announced", nil}
	errTooLarge        = &failure{http.StatusRequestEntityTooLarge, "SIZE_INVALID", "the blob is larger than this registry accepts", nil}
	errTooMany         = &failure{http.StatusTooManyRequests, "TOOMANYREQUESTS", "too many uploads are open; try again later", nil}
	errManifest        = &failure{http.StatusBadRequest, "MANIFEST_INVALID", "the manifest is malformed", nil}
	errManifestLarge   = &failure{http.StatusRequestEntityTooLarge, "MANIFEST_INVALID", "the manifest is larger than this registry accepts", nil}
	errManifestLacks   = &failure{http.StatusNotFound, "MANIFEST_BLOB_UNKNOWN", "the manifest lists what is not in this repository: upload that first", nil}
	errNoManifest      = &failure{http.StatusNotFound, "MANIFEST_UNKNOWN", "no such manifest in this repository", nil}
	errFull            = &failure{http.StatusInsufficientStorage, "UNKNOWN", "the registry's disk is full", nil}
	errInside          = &failure{http.StatusInternalServerError, "UNKNOWN", "the registry's store failed; its log says why", nil}
	errUpstreamTrouble = &failure{http.StatusBadGateway, "UNKNOWN", "the registry that this one asks does not answer", nil}
)

// failed turns any error into one of the specification's. What goes wrong
// inside is for the log, not for clients.
func (q *request) failed(err error) *failure {
	var f *failure
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, store.ErrBusy):
		return errUploadBusy
	case errors.Is(err, store.ErrDigest):
		return errDigest
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		f = errFull
	case !store.IsTrouble(err) && errors.Is(err, fs.ErrNotExist):
		return errNoManifest
	default:
		f = errInside
	}
	if q.ctx.Err() == nil && !errors.Is(err, context.Canceled) {
		q.opts.Logger.Warn("registry: request failed", "method", q.r.Method, "path", q.r.URL.Path, "err", err)
	}
	return f
}

func (q *request) fail(err error) {
	f := q.failed(err)
	if f == errTooMany {
		q.w.Header().Set("Retry-After", "60")
	}
	type one struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Detail  any    `json:"detail,omitempty"`
	}
	q.json(f.status, map[string][]one{"errors": {{f.code, f.message, f.detail}}})
}

// json answers with v.
func (q *request) json(status int, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if q.w.Header().Get("Content-Type") == "" || status >= http.StatusBadRequest {
		q.w.Header().Set("Content-Type", "application/json")
	}
	q.w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	q.w.WriteHeader(status)
	if q.r.Method != http.MethodHead {
		q.w.Write(data)
	}
	return nil
}
