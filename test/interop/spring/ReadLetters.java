import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.header.Header;
import org.springframework.kafka.listener.DeadLetterPublishingRecoverer;
import org.springframework.kafka.listener.DefaultErrorHandler;
import org.springframework.kafka.listener.MessageListener;
import org.springframework.kafka.support.KafkaHeaders;
import org.springframework.kafka.support.converter.MessagingMessageConverter;
import org.springframework.messaging.MessageHeaders;
import org.springframework.util.backoff.FixedBackOff;

/**
 * Consumes dead letters of another system as a Spring application does and prints what Spring makes of their headers.
 * Then its own listener fails, and Spring writes a dead letter of the dead letter, which must keep the first origin.
 *
 * <p>Arguments: brokers, topic, group.
 */
public final class ReadLetters {
    private static final MessagingMessageConverter CONVERTER = new MessagingMessageConverter();

    private ReadLetters() {}

    public static void main(String[] args) throws Exception {
        var recoverer = new DeadLetterPublishingRecoverer(Spring.template(args[0]));
        recoverer.setAppendOriginalHeaders(false); // what is there already is Spring's own: leave it
        MessageListener<byte[], byte[]> listener = r -> {
            try {
                Out.print(read(r));
            } catch (RuntimeException e) {
                e.printStackTrace(); // Spring would make a dead letter of it, too
            }
            throw new IllegalStateException("failed in Java");
        };
        Spring.listen(args[0], args[1], args[2], listener, new DefaultErrorHandler(recoverer, new FixedBackOff(0, 0)));
        while (System.in.read() >= 0) {
            // until the test ends
        }
        System.exit(0);
    }

    private static Map<String, Object> read(ConsumerRecord<byte[], byte[]> r) {
        MessageHeaders headers = CONVERTER.toMessage(r, null, null, byte[].class).getHeaders();
        Map<String, Object> line = Out.record(r);
        Map<String, Object> spring = new LinkedHashMap<>();
        spring.put("topic", text(headers, KafkaHeaders.DLT_ORIGINAL_TOPIC));
        spring.put("partition", ByteBuffer.wrap((byte[]) headers.get(KafkaHeaders.DLT_ORIGINAL_PARTITION)).getInt());
        spring.put("offset", ByteBuffer.wrap((byte[]) headers.get(KafkaHeaders.DLT_ORIGINAL_OFFSET)).getLong());
        spring.put("timestamp", ByteBuffer.wrap((byte[]) headers.get(KafkaHeaders.DLT_ORIGINAL_TIMESTAMP)).getLong());
        spring.put("timestamp_type", text(headers, KafkaHeaders.DLT_ORIGINAL_TIMESTAMP_TYPE));
        spring.put("group", text(headers, KafkaHeaders.DLT_ORIGINAL_CONSUMER_GROUP));
        spring.put("exception", text(headers, KafkaHeaders.DLT_EXCEPTION_FQCN));
        spring.put("cause", text(headers, KafkaHeaders.DLT_EXCEPTION_CAUSE_FQCN));
        spring.put("message", text(headers, KafkaHeaders.DLT_EXCEPTION_MESSAGE));
        spring.put("stacktrace", text(headers, KafkaHeaders.DLT_EXCEPTION_STACKTRACE));
        line.put("spring", spring);

        Map<String, Object> sizes = new LinkedHashMap<>();
        sizes.put("partition", size(r, KafkaHeaders.DLT_ORIGINAL_PARTITION));
        sizes.put("offset", size(r, KafkaHeaders.DLT_ORIGINAL_OFFSET));
        sizes.put("timestamp", size(r, KafkaHeaders.DLT_ORIGINAL_TIMESTAMP));
        line.put("sizes", sizes);
        return line;
    }

    private static String text(MessageHeaders headers, String name) {
        Object v = headers.get(name);
        return v instanceof byte[] b ? new String(b, StandardCharsets.UTF_8) : (String) v;
    }

    private static int size(ConsumerRecord<byte[], byte[]> r, String name) {
        Header h = r.headers().lastHeader(name);
        return h == null ? -1 : h.value().length;
    }
}
