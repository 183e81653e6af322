import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.atomic.AtomicBoolean;
import org.springframework.kafka.listener.DeadLetterPublishingRecoverer;
import org.springframework.kafka.listener.DefaultErrorHandler;
import org.springframework.kafka.listener.MessageListener;
import org.springframework.util.backoff.FixedBackOff;

/**
 * Consumes a topic as a Spring application does. Its listener fails, so that Spring writes dead letters, until a line
 * comes in; from then on it prints each record that it handles.
 *
 * <p>Arguments: brokers, topic, group.
 */
public final class FailAndHeal {
    private FailAndHeal() {}

    public static void main(String[] args) throws Exception {
        var healed = new AtomicBoolean();
        var recoverer = new DeadLetterPublishingRecoverer(Spring.template(args[0]));
        MessageListener<byte[], byte[]> listener = r -> {
            if (!healed.get()) {
                throw new IllegalStateException("the index is down");
            }
            Out.print(Out.record(r));
        };
        Spring.listen(args[0], args[1], args[2], listener, new DefaultErrorHandler(recoverer, new FixedBackOff(0, 1)));
        var in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        while (in.readLine() != null) {
            healed.set(true);
            System.err.println("healed");
        }
        System.exit(0);
    }
}
