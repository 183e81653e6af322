import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.URI;
import java.time.Duration;
import java.time.Instant;
import java.util.Optional;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.Consumer;
import net.javacrumbs.shedlock.core.LockConfiguration;
import net.javacrumbs.shedlock.core.LockProvider;
import net.javacrumbs.shedlock.core.SimpleLock;
import net.javacrumbs.shedlock.provider.jdbctemplate.JdbcTemplateLockProvider;
import net.javacrumbs.shedlock.provider.redis.spring.RedisLockProvider;
import org.springframework.data.redis.connection.RedisStandaloneConfiguration;
import org.springframework.data.redis.connection.jedis.JedisConnectionFactory;
import org.springframework.data.redis.core.StringRedisTemplate;
import org.springframework.jdbc.core.JdbcTemplate;
import org.springframework.jdbc.datasource.SingleConnectionDataSource;

/**
 * A node that keeps its locks with ShedLock: arguments postgres URL USER, or redis
 * URL. It does what each line of its input says:
 *
 * <pre>
 * lock NAME MAX MIN   answers granted or refused; milliseconds
 * extend MAX MIN      answers extended or lost
 * unlock                 answers unlocked
 * contend NAME ROUNDS    takes and frees the lock so often, tells the witness of each
 *                        coming and going, and answers done
 * </pre>
 */
public final class Node {
    private final LockProvider locks;
    private final Consumer<String> witness;
    private Optional<SimpleLock> held = Optional.empty();

    private Node(LockProvider locks, Consumer<String> witness) {
        this.locks = locks;
        this.witness = witness;
    }

    public static void main(String[] args) throws Exception {
        Node node = args[0].equals("postgres") ? postgres(args[1], args[2]) : redis(URI.create(args[1]));
        System.out.println("ready");
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            System.out.println(node.obey(line.split(" ")));
        }
        System.exit(0);
    }

    private static Node postgres(String url, String user) {
        JdbcTemplate jdbc = new JdbcTemplate(new SingleConnectionDataSource(url, user, "", true));
        LockProvider locks = new JdbcTemplateLockProvider(
                JdbcTemplateLockProvider.Configuration.builder().withJdbcTemplate(jdbc).usingDbTime().build());
        return new Node(locks, entry -> jdbc.update("INSERT INTO witness (entry) VALUES (?)", entry));
    }

    private static Node redis(URI url) {
        RedisStandaloneConfiguration at = new RedisStandaloneConfiguration(url.getHost(), url.getPort());
        at.setDatabase(Integer.parseInt(url.getPath().substring(1)));
        JedisConnectionFactory connections = new JedisConnectionFactory(at);
        connections.afterPropertiesSet();
        connections.start();
        StringRedisTemplate redis = new StringRedisTemplate(connections);
        LockProvider locks = new RedisLockProvider.Builder(connections).environment("default").safeUpdate(true).build();
        return new Node(locks, entry -> redis.opsForList().rightPush("witness", entry));
    }

    private String obey(String[] words) throws InterruptedException {
        switch (words[0]) {
            case "lock":
                held = lock(words[1], Long.parseLong(words[2]), Long.parseLong(words[3]));
                return held.isPresent() ? "granted" : "refused";
            case "extend":
                held = held.get().extend(Duration.ofMillis(Long.parseLong(words[1])), Duration.ofMillis(Long.parseLong(words[2])));
                return held.isPresent() ? "extended" : "lost";
            case "unlock":
                held.get().unlock();
                return "unlocked";
            case "contend":
                contend(words[1], Integer.parseInt(words[2]));
                return "done";
            default:
                return "what is " + words[0] + "?";
        }
    }

    private Optional<SimpleLock> lock(String name, long max, long min) {
        return locks.lock(new LockConfiguration(Instant.now(), name, Duration.ofMillis(max), Duration.ofMillis(min)));
    }

    private void contend(String name, int rounds) throws InterruptedException {
        for (int done = 0; done < rounds; ) {
            Optional<SimpleLock> lock = lock(name, 60_000, 0);
            if (lock.isPresent()) {
                witness.accept("java comes");
                witness.accept("java goes");
                lock.get().unlock();
                done++;
            }
            Thread.sleep(ThreadLocalRandom.current().nextInt(3));
        }
    }
}
