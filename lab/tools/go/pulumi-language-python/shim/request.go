package main

import "google.golang.org/protobuf/encoding/protowire"

// Fields of RunPluginRequest and ProgramInfo: proto/pulumi/language.proto.
const (
	program          protowire.Number = 2
	info             protowire.Number = 5
	programDirectory protowire.Number = 2
)

// withProgram fills the field `program` of an encoded RunPluginRequest with the folder that `info` names. A request that has it already,
// or none to fill it with, stays as it is.
func withProgram(request []byte) []byte {
	folder := field(field(request, info), programDirectory)
	if len(field(request, program)) > 0 || len(folder) == 0 {
		return request
	}
	filled := append([]byte(nil), request...)
	filled = protowire.AppendTag(filled, program, protowire.BytesType)
	return protowire.AppendBytes(filled, folder)
}

// field is the last value of a field of text or message type; nil when there is none, or what is encoded is no message.
func field(message []byte, wanted protowire.Number) []byte {
	var found []byte
	for len(message) > 0 {
		number, kind, tag := protowire.ConsumeTag(message)
		if tag < 0 {
			return nil
		}
		length := protowire.ConsumeFieldValue(number, kind, message[tag:])
		if length < 0 {
			return nil
		}
		if number == wanted && kind == protowire.BytesType {
			found, _ = protowire.ConsumeBytes(message[tag:])
		}
		message = message[tag+length:]
	}
	return found
}
